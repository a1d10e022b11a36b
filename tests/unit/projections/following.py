"""A projection worker over a log in memory, and what its tests observe."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from eventstore.projections.database import checkpoint
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.worker.worker import ProjectionWorker
from tests.unit.projections.counters import Counted
from tests.unit.projections.memory import MemoryLog

BOUND = 45.0
POLL = 0.02


class Poison(Exception):
    """What a handler raises in these tests."""


def poisoned(event: Counted) -> None:
    if event.by == 13:
        raise Poison("no thirteens here")


def worker_of(
    log: MemoryLog, database: Database, *projections: Projection, **options: Any
) -> ProjectionWorker:
    options = {"poll": POLL, **options}
    return ProjectionWorker(log, database, projections, **options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def following(worker: ProjectionWorker) -> AsyncIterator[ProjectionWorker]:
    """Run a worker; failures of projections are not raised."""
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if ended is not None and not worker.failures:
            raise ended


async def until(is_so: Callable[[], object]) -> None:
    """Return once a condition is true, checked at each turn of the event loop."""
    async with asyncio.timeout(BOUND):
        while not is_so():  # noqa: ASYNC110  # there is nothing to wait for
            await asyncio.sleep(0.001)


async def checkpoint_of(database: Database, projection: Projection) -> Checkpoint:
    found = await database.transact(lambda c: checkpoint.read(c, projection.name))
    assert found is not None
    return found
