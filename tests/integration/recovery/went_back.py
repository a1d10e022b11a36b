"""A service whose server's files are put back to an older copy, whole or only those of the log."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventstore.application.service import RunningApplication
from eventstore.config import ReadModelSettings, Settings, StreamSettings
from eventstore.server.embedded import EmbeddedServer
from examples import bank
from tests.connection import settings_for

BOUND = 60.0


class Depot:
    """A server and a read model of the test's own, and older copies of the server's files."""

    def __init__(self, directory: Path, database: str | None = None) -> None:
        self.server = EmbeddedServer(directory / "nats")
        self._copy = directory / "copy"
        self._database = database or str(directory / "rows.sqlite")
        self.more: dict[str, bool] = {}

    @property
    def settings(self) -> Settings:
        rows = ReadModelSettings(database=self._database, **self.more)
        settings = settings_for(self.server.url, "bank")
        # An event that gets the id of a published one waits until the server has forgotten that.
        streams = StreamSettings(duplicate_window_ms=500)
        return msgspec.structs.replace(settings, read_model=rows, streams=streams)

    @asynccontextmanager
    async def service(self, **parts: Any) -> AsyncIterator[RunningApplication]:
        async with asyncio.timeout(BOUND), bank.app.running(self.settings, **parts) as service:
            yield service

    async def deposits(self, count: int, account: str = "a", **parts: Any) -> int:
        """Deposit as often, wait until it is in the read model, and return the last position."""
        async with self.service(**parts) as service:
            for _ in range(count):
                outcome = await service.execute(bank.Deposit(amount=1), account)
            await service.ask(bank.GetAccount(id=account), wait_for=outcome.position)
            await self.published(service, outcome.position)
        return outcome.position

    async def published(self, service: RunningApplication, position: int) -> None:
        """Wait until the event at a position is in the event stream."""
        subjects = service.domain.codec.subjects
        while True:
            found = await service.client.api(f"STREAM.INFO.{subjects.event_stream}")
            if found["state"]["messages"] >= position:
                return

    async def keep(self) -> None:
        """Copy the server's files, as an operator does."""
        await self.server.stop()
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.server.data_directory, self._copy, ignore=_sockets)
        await self.server.start()

    async def put_back(self, stream: str = "") -> None:
        """Put them back; only those of one stream, if it is named."""
        await self.server.stop()
        self.swap(stream)
        await self.server.start()

    def swap(self, stream: str = "") -> None:
        (kept,) = self._copy.rglob(f"streams/{stream}" if stream else "jetstream")
        there = self.server.data_directory / kept.relative_to(self._copy)
        shutil.rmtree(there)
        shutil.copytree(kept, there)


def _sockets(directory: str, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if not (Path(directory) / name).is_file() and not (Path(directory) / name).is_dir()
    ]
