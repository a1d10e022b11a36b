"""Epochs: the worker follows a checkpoint that is set from outside, and failures end."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, delete

from eventstore.errors import CheckpointReset, ProjectionFailed, VersionChanged
from eventstore.projections.database import checkpoint
from eventstore.projections.database.checkpoint import ExpectedCheckpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from tests.unit.projections.counters import Counted, counting, make_tables, rows_of
from tests.unit.projections.following import (
    BOUND,
    checkpoint_of,
    following,
    poisoned,
    until,
    worker_of,
)
from tests.unit.projections.memory import MemoryLog, time_of


@pytest.fixture
async def tables(database: Database) -> Database:
    for name in ("first", "second"):
        counting(name)
    await make_tables(database)
    return database


def replace(connection: Connection, projection: Projection, position: int) -> None:
    """What a reset or a rebuild does: other rows, and a checkpoint that belongs to them."""
    rows = projection.tables[0]
    connection.execute(delete(rows).where(rows.c.position > position))
    checkpoint.restart(connection, projection, position, time_of(position))


async def test_a_move_in_another_epoch_raises_checkpoint_reset(database: Database) -> None:
    first = counting("first")
    await database.transact(lambda c: checkpoint.claim(c, first, time_of(0)))
    await database.transact(lambda c: checkpoint.restart(c, first, 0, time_of(0)))

    with pytest.raises(CheckpointReset):
        await database.transact(
            lambda c: checkpoint.move_all(c, [ExpectedCheckpoint(first, 0, epoch=1)], 5, time_of(1))
        )

    await database.transact(
        lambda c: checkpoint.move_all(c, [ExpectedCheckpoint(first, 0, 2)], 5, time_of(1))
    )
    assert (await checkpoint_of(database, first)).position == 5


async def test_several_move_together_or_not_at_all(database: Database) -> None:
    first, second = counting("first"), counting("second")
    await database.transact(
        lambda c: [checkpoint.claim(c, each, time_of(0)) for each in (first, second)]
    )
    await database.transact(lambda c: checkpoint.retry(c, "second"))
    both = [ExpectedCheckpoint(first, 0, 1), ExpectedCheckpoint(second, 0, 1)]

    with pytest.raises(CheckpointReset, match="second"):
        await database.transact(lambda c: checkpoint.move_all(c, both, 5, time_of(1)))
    assert (await checkpoint_of(database, first)).position == 0

    both[1] = ExpectedCheckpoint(second, 0, 2)
    await database.transact(lambda c: checkpoint.move_all(c, both, 5, time_of(1), 7.5))
    assert [(await checkpoint_of(database, each)).rate for each in (first, second)] == [7.5, 7.5]


@pytest.mark.parametrize("position", [0, 2, 4])
async def test_an_idle_worker_follows_a_checkpoint_that_was_set(
    log: MemoryLog, tables: Database, position: int
) -> None:
    first, second = counting("first"), counting("second")
    end = log.add("c", *(Counted(by=n) for n in range(4)))

    async with following(worker_of(log, tables, first, second)) as worker:
        await worker.wait(end, BOUND)
        await tables.transact(lambda c: replace(c, first, position))
        await until(lambda: worker.progress["first"].applied == 8 - position)
        await worker.wait(end, BOUND)
        await until(lambda: worker.progress["first"].state == "live")
        await worker.wait(await log.add_live("c", Counted(by=4)), BOUND)

    assert await rows_of(tables, first) == await rows_of(tables, second)
    assert worker.progress["second"].applied == 5


async def test_a_busy_worker_notices_by_its_next_move(log: MemoryLog, tables: Database) -> None:
    first, second = counting("first"), counting("second")
    end = log.add("c", *(Counted(by=n) for n in range(4)))

    async with following(worker_of(log, tables, first, second, poll=1_000)) as worker:
        await worker.wait(end, BOUND)
        await tables.transact(lambda c: replace(c, first, 1))
        await worker.wait(await log.add_live("c", Counted(by=4)), BOUND)

    assert await rows_of(tables, first) == await rows_of(tables, second)
    assert worker.progress["first"].applied == 8


async def test_one_that_is_set_forward_goes_on_from_there(log: MemoryLog, tables: Database) -> None:
    first = counting("first", fails=poisoned)
    log.add("c", Counted(by=13), Counted(by=2))
    second = counting("second")

    async with following(worker_of(log, tables, first, second)) as worker:
        await until(lambda: worker.progress["first"].state == "failed")
        await tables.transact(lambda c: checkpoint.restart(c, first, 1, time_of(1)))
        await until(lambda: worker.progress["first"].position == 2)

    assert await rows_of(tables, first) == [(2, 2)]


async def test_a_failure_is_recorded_until_it_moves(log: MemoryLog, tables: Database) -> None:
    broken = [True]

    def fails(event: Counted) -> None:
        if broken[0]:
            poisoned(event)

    first = counting("first", fails=fails)
    log.add("c", Counted(by=1), Counted(by=13))

    async with following(worker_of(log, tables, first, counting("second"))) as worker:
        await until(lambda: worker.progress["first"].state == "failed")
        failed = await checkpoint_of(tables, first)
        assert (failed.position, failed.epoch, failed.rate) == (1, 1, 0.0)
        assert str(failed.error) == str(worker.progress["first"].error)

        broken.clear()
        broken.append(False)
        assert await tables.transact(lambda c: checkpoint.retry(c, "first"))
        await until(lambda: worker.progress["first"].position == 2)
        await until(lambda: worker.progress["first"].state == "live")

    moved = await checkpoint_of(tables, first)
    assert (moved.position, moved.epoch, moved.error) == (2, 2, None)
    assert worker.failures == []


async def test_one_whose_retry_fails_stays_failed(log: MemoryLog, tables: Database) -> None:
    first = counting("first", fails=poisoned)
    log.add("c", Counted(by=13))

    async with following(worker_of(log, tables, first, counting("second"))) as worker:
        await until(lambda: worker.progress["first"].state == "failed")
        before = worker.progress["first"].error
        await tables.transact(lambda c: checkpoint.retry(c, "first"))
        await until(lambda: worker.progress["first"].error not in (None, before))
        assert "no thirteens" in str((await checkpoint_of(tables, first)).error)


async def test_a_projection_that_was_never_used_has_nothing_to_retry(database: Database) -> None:
    assert not await database.transact(lambda c: checkpoint.retry(c, "first"))


async def test_set_while_it_is_paused_it_goes_on_from_there_when_resumed(
    log: MemoryLog, tables: Database
) -> None:
    first = counting("first")
    end = log.add("c", *(Counted(by=n) for n in range(3)))

    async with following(worker_of(log, tables, first, counting("second"))) as worker:
        await worker.wait(end, BOUND)
        worker.pause(["first"])
        await tables.transact(lambda c: replace(c, first, 1))
        await until(lambda: worker.progress["first"].position == 1)
        assert worker.progress["first"].state == "paused"
        worker.pause([])
        await worker.wait(end, BOUND)

    assert await rows_of(tables, first) == [(1, 0), (2, 1), (3, 2)]


class RebuildHook:
    """A rebuild hook that replaces the rows when it is released."""

    def __init__(self, log: MemoryLog, database: Database) -> None:
        self.go_on = asyncio.Event()
        self.begun = 0
        self.error: Exception | None = None
        self._log = log
        self._database = database

    async def __call__(self, projection: Projection) -> None:
        self.begun += 1
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        await self._database.transact(lambda c: replace(c, projection, 0))


async def made_by_version(log: MemoryLog, database: Database, version: int) -> None:
    made = counting("first", version=version)
    async with following(worker_of(log, database, made)) as worker:
        await worker.wait(log.end, BOUND)


@pytest.mark.parametrize("version", [1, 3])
async def test_rows_of_another_version_are_rebuilt_beside_the_others(
    log: MemoryLog, tables: Database, version: int
) -> None:
    log.add("c", Counted(by=1), Counted(by=2))
    await made_by_version(log, tables, version)
    first, second = counting("first", version=2), counting("second")
    rebuild = RebuildHook(log, tables)

    async with following(worker_of(log, tables, first, second, rebuild=rebuild)) as worker:
        await worker.wait(await log.add_live("c", Counted(by=3)), BOUND, projection="second")
        progress = worker.progress["first"]
        assert (progress.state, progress.position) == ("rebuilding", 2)
        assert await rows_of(tables, first) == [(1, 1), (2, 2)]
        rebuild.go_on.set()
        await worker.wait(3, BOUND)

    assert rebuild.begun == 1
    assert await rows_of(tables, first) == await rows_of(tables, second)
    assert (await checkpoint_of(tables, first)).version == 2


async def test_a_failed_rebuild_stops_its_projection_until_a_retry(
    log: MemoryLog, tables: Database
) -> None:
    log.add("c", Counted(by=1))
    await made_by_version(log, tables, 1)
    first = counting("first", version=2)
    rebuild = RebuildHook(log, tables)
    rebuild.error = LookupError("no room")
    rebuild.go_on.set()

    async with following(
        worker_of(log, tables, first, counting("second"), rebuild=rebuild)
    ) as worker:
        await until(lambda: worker.progress["first"].state == "failed")
        error = worker.progress["first"].error
        assert isinstance(error, ProjectionFailed)
        assert str(error) == "projection first could not be rebuilt: no room"
        assert (await checkpoint_of(tables, first)).error == str(error)

        rebuild.error = None
        await tables.transact(lambda c: checkpoint.retry(c, "first"))
        await until(lambda: worker.progress["first"].state == "live")

    assert rebuild.begun == 2


async def test_a_rebuild_ends_with_its_worker(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=1))
    await made_by_version(log, tables, 1)
    rebuild = RebuildHook(log, tables)

    async with following(
        worker_of(log, tables, counting("first", version=2), rebuild=rebuild)
    ) as worker:
        await until(lambda: rebuild.begun)

    assert worker.failures == []
    assert (await checkpoint_of(tables, counting("first"))).version == 1


async def test_rows_that_newer_code_has_just_made_are_left_to_it(
    log: MemoryLog, tables: Database
) -> None:
    first, newer = counting("first"), counting("first", version=2)
    end = log.add("c", Counted(by=1))
    rebuild = RebuildHook(log, tables)

    async with following(
        worker_of(log, tables, first, counting("second"), rebuild=rebuild)
    ) as worker:
        await worker.wait(end, BOUND)
        await tables.transact(lambda c: checkpoint.restart(c, newer, 1, time_of(1)))
        await until(lambda: worker.progress["first"].state == "failed")
        assert isinstance(worker.progress["first"].error, VersionChanged)

    assert rebuild.begun == 0
    assert (await checkpoint_of(tables, first)).error is None
