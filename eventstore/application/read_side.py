"""The second process of a service, as it sees itself: it reports to the first, and ends with it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from eventstore.application.process_link import ProcessLink, Ready, Report, Request
from eventstore.application.server import server_directory
from eventstore.config import Settings
from eventstore.errors import ServerStartFailed
from eventstore.server.embedded import running_server
from eventstore.service.health import Health
from eventstore.service.metrics import Metrics
from eventstore.service.micro import EndpointStats

_STDIN = 0
_GRACE_SECONDS = 5.0


class ParentLink:
    """Reports health and metrics to the first process, which answers for both; a component.

    `queries` are the endpoints of the queries that are answered here.
    """

    def __init__(
        self,
        link: ProcessLink,
        health: Health,
        metrics: Metrics,
        queries: Sequence[EndpointStats],
    ) -> None:
        self._link = link
        self._health = health
        self._metrics = metrics
        self._queries = tuple(queries)
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    def announce(self, read_model: str) -> None:
        """Tell the first process that the read side works."""
        self._link.send(Ready(read_model, self._queries))

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Answer requests until `stop`."""
        self.ready.set()
        answering = asyncio.create_task(self._answer())
        await self._stopping.wait()
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering

    async def _answer(self) -> None:
        while isinstance(request := await self._link.receive(), Request):
            health = await self._health.report()
            samples = self._metrics.samples()
            self._link.send(Report(request.number, health, samples, self._queries))


def read_side_settings(settings: Settings, directory: Path) -> Settings:
    """The settings of the second process: the first one's server, and no metrics by HTTP.

    Raises `ServerStartFailed` if that was an embedded server, and has ended.
    """
    operations = msgspec.structs.replace(settings.operations, metrics_address="")
    settings = msgspec.structs.replace(settings, operations=operations)
    if settings.nats.url:
        return settings
    url = running_server(server_directory(directory))
    if url is None:
        raise ServerStartFailed(f"the embedded server in {directory} has ended")
    return settings.with_url(url)


def end_with_parent() -> None:
    """Have this process end when the first one has: in order, or else after 5 seconds."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    while os.read(_STDIN, 1):  # it ends with the process that holds the other end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
