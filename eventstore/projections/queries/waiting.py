"""Wait until read models have reached a position, whichever process keeps them up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import select

from eventstore.errors import ProjectionFenced, WaitTimeout
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints as table

if TYPE_CHECKING:  # who only declares queries loads no worker
    from eventstore.projections.worker.worker import ProjectionWorker


class Positions(Protocol):
    """Waits for the positions of read models; a `ProjectionWorker` is one."""

    async def wait(self, position: int, timeout: float = 5.0, *, projection: str) -> None:
        """Return once a projection has committed everything up to `position`.

        Raises `WaitTimeout` after `timeout` seconds, and immediately the failure of a projection
        that will not get there.
        """


class CheckpointPositions:
    """Waits by reading the checkpoints, or by this process's worker if that moves them.

    Without a `worker`, or for a projection that another process owns, the checkpoints are read
    every `interval` seconds, once for all waiters.
    """

    def __init__(
        self, database: Database, worker: ProjectionWorker | None = None, *, interval: float = 0.02
    ) -> None:
        self._database = database
        self._worker = worker
        self._interval = interval
        self._reading = asyncio.Lock()
        self._reads = 0
        self._read_at = 0.0
        self._positions: Mapping[str, int] = {}

    async def wait(self, position: int, timeout: float = 5.0, *, projection: str) -> None:
        """Wait as `Positions.wait` does; raises `DatabaseUnavailable`, too."""
        try:
            async with asyncio.timeout(timeout):
                while not await self._is_reached_by_worker(position, projection):
                    await self._read_once()
                    if self._positions.get(projection, 0) >= position:
                        return
        except TimeoutError as error:
            raise WaitTimeout(position, self._positions.get(projection, 0), timeout) from error

    async def _is_reached_by_worker(self, position: int, projection: str) -> bool:
        """Whether the own worker has reached it, within the time between two reads."""
        if self._worker is None or projection not in self._worker.progress:
            return False
        # If it is fenced, another worker continues the projection.
        with suppress(WaitTimeout, ProjectionFenced):
            await self._worker.wait(position, self._interval, projection=projection)
            return True
        return False

    async def _read_once(self) -> None:
        known = self._reads
        async with self._reading:
            if self._reads == known:  # no other waiter has read them meanwhile
                loop = asyncio.get_running_loop()
                await asyncio.sleep(self._read_at + self._interval - loop.time())
                self._positions = await self._read()
                self._read_at = loop.time()
                self._reads += 1

    async def _read(self) -> Mapping[str, int]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(table.c.name, table.c.position))
            return {row.name: row.position for row in rows}
