"""Waiting for positions, by the own worker and by the checkpoints of another process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import event

from eventstore.application import running
from eventstore.errors import DatabaseUnavailable, PoisonEvent, WaitTimeout
from eventstore.projections.database.database import Database
from eventstore.projections.queries.waiting import CheckpointPositions, Positions
from eventstore.projections.worker.worker import ProjectionWorker
from tests.unit.projections.counters import Counted, codec, counting, make_tables
from tests.unit.projections.memory import MemoryLog
from tests.unit.projections.reading import move, replaced_by_a_directory

BOUND = 45.0


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(codec)


@pytest.fixture
async def tables(database: Database) -> Database:
    counting("first")
    await make_tables(database)
    return database


def worker_of(log: MemoryLog, database: Database, *, failing: bool = False) -> ProjectionWorker:
    def fails(_event: Counted) -> None:
        if failing:
            raise RuntimeError("never")

    return ProjectionWorker(log, database, [counting("first", fails=fails)])  # type: ignore[arg-type]


class Reads:
    """Counts how often the checkpoints are read."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        event.listen(database.engine.sync_engine, "before_cursor_execute", self._executed)

    def _executed(self, _c: object, _cursor: object, sql: str, *_: object) -> None:
        self.count += "FROM eventstore_projection" in sql


async def test_another_process_moves_the_checkpoint(database: Database) -> None:
    await move(database, 3, "first")
    positions = CheckpointPositions(database)
    await positions.wait(3, BOUND, projection="first")
    waiting = asyncio.create_task(positions.wait(5, BOUND, projection="first"))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.05)
    assert not waiting.done()
    await move(database, 5, "first")
    await asyncio.wait_for(waiting, BOUND)


async def test_what_has_not_begun_is_at_0(database: Database) -> None:
    positions = CheckpointPositions(database)
    with pytest.raises(WaitTimeout, match=r"is at position 0, not at 1, after 0\.05 s"):
        await positions.wait(1, 0.05, projection="first")
    await positions.wait(0, BOUND, projection="first")


async def test_all_who_wait_share_one_look(database: Database) -> None:
    await move(database, 1, "first")
    reads = Reads(database)
    positions = CheckpointPositions(database, interval=0.05)
    waiting = [positions.wait(2, 0.3, projection="first") for _ in range(50)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, WaitTimeout) for result in results)
    assert reads.count <= 8


async def test_the_own_worker_answers_without_a_read(log: MemoryLog, tables: Database) -> None:
    worker = worker_of(log, tables)
    positions: Positions = CheckpointPositions(tables, worker, interval=BOUND)
    log.add("a", Counted(by=1))
    async with running(worker):
        await worker.wait(1, BOUND)
        reads = Reads(tables)
        await positions.wait(1, BOUND, projection="first")
        waiting = asyncio.create_task(positions.wait(2, BOUND, projection="first"))
        await log.add_live("a", Counted(by=2))
        await asyncio.wait_for(waiting, BOUND)
    assert reads.count == 0


async def test_a_failed_projection_is_reported_immediately(
    log: MemoryLog, tables: Database
) -> None:
    worker = worker_of(log, tables, failing=True)
    log.add("a", Counted(by=1))
    with pytest.raises(PoisonEvent):
        await worker.run()
    positions = CheckpointPositions(tables, worker)
    async with asyncio.timeout(BOUND):
        with pytest.raises(PoisonEvent, match="RuntimeError: never"):
            await positions.wait(1, 10 * BOUND, projection="first")


async def test_a_worker_that_does_not_follow_is_no_hindrance(
    log: MemoryLog, tables: Database
) -> None:
    """Another process owns its projection, now or always."""
    worker = worker_of(log, tables)  # does not run
    positions = CheckpointPositions(tables, worker)
    await move(tables, 4, "first", "second")
    await positions.wait(4, BOUND, projection="first")
    await positions.wait(4, BOUND, projection="second")


async def test_if_it_is_fenced_the_checkpoint_of_the_other_counts(
    log: MemoryLog, tables: Database
) -> None:
    worker = worker_of(log, tables)
    log.add("a", Counted(by=1))
    task = asyncio.create_task(worker.run())
    await worker.wait(1, BOUND)
    await move(tables, 7, "first")
    await log.add_live("a", Counted(by=2))
    await asyncio.wait([task], timeout=BOUND)
    assert type(task.exception()).__name__ == "ProjectionFenced"
    await CheckpointPositions(tables, worker).wait(7, BOUND, projection="first")


async def test_a_database_that_cannot_be_read_now_is_reported(sqlite_database: Database) -> None:
    await sqlite_database.engine.dispose()
    await asyncio.to_thread(replaced_by_a_directory, Path(str(sqlite_database.url.database)))
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        await CheckpointPositions(sqlite_database).wait(1, BOUND, projection="first")
