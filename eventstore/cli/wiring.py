"""The wiring: the write side and the read side together. The only place that knows both."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Struct

from eventstore import nix
from eventstore.application import Application, running
from eventstore.cli.options import server_directory
from eventstore.config import Settings
from eventstore.server import EmbeddedServer
from projections.database import Database
from projections.nix import nix_projections
from projections.worker import ProjectionWorker

__all__ = ["Service", "open_server", "open_service", "stop_on_signals"]


@asynccontextmanager
async def open_server(settings: Settings, data: Path) -> AsyncIterator[Settings]:
    """Settings for the server that is named, or for an embedded one that runs meanwhile."""
    if settings.nats.url:
        yield settings
        return
    async with EmbeddedServer(server_directory(data)) as server:
        yield settings.with_url(server.url)


class Service(Struct):
    """The Nix domain at work: its application, its read models and what keeps them up to date."""

    app: Application
    database: Database
    projections: ProjectionWorker


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Migrate the database and run everything until the end of the block."""
    async with (
        Database(settings.read_model.database) as database,
        Application(nix.domain(), settings) as app,
    ):
        await database.migrate()
        projections = ProjectionWorker(app.store, database, nix_projections())
        async with running(projections):
            await app.worker.ready.wait()
            yield Service(app, database, projections)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stopping() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        stop()

    for number in numbers:
        loop.add_signal_handler(number, stopping)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
