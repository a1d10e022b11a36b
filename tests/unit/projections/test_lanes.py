"""Lanes: one that is behind holds nobody up, and in the end there is one reader for all."""

from __future__ import annotations

import asyncio

import pytest

from projections import checkpoint
from projections.database import Database
from tests.unit.projections.counters import Counted, counting, make_tables, rows_of
from tests.unit.projections.following import BOUND, checkpoint_of, following, until, worker_of
from tests.unit.projections.memory import MemoryLog, time_of


@pytest.fixture
async def tables(database: Database) -> Database:
    for name in ("first", "second", "third"):
        counting(name)
    await make_tables(database)
    return database


async def test_one_that_is_far_behind_holds_nobody_up(log: MemoryLog, tables: Database) -> None:
    log.add("c", *(Counted(by=n) for n in range(500)))
    first, second = counting("first"), counting("second")
    async with following(worker_of(log, tables, second)) as worker:
        await worker.wait(500, BOUND)

    async with following(worker_of(log, tables, first, second, batch=10)) as worker:
        worker.pause(["first"])
        await worker.wait(await log.add_live("c", Counted(by=1)), BOUND, projection="second")
        assert worker.progress["second"].state == "live"
        worker.pause([])
        # Pages of the slow one and of the live one alternate; none waits for the other's end.
        while worker.progress["first"].position < 400:
            end = await log.add_live("c", Counted(by=1))
            await worker.wait(end, BOUND, projection="second")
            assert worker.progress["second"].state == "live"
        await worker.wait(log.end, BOUND)

    assert await rows_of(tables, first) == await rows_of(tables, second)


async def test_in_the_end_one_transaction_moves_all(log: MemoryLog, tables: Database) -> None:
    several = [counting(name) for name in ("first", "second", "third")]
    log.add("c", *(Counted(by=n) for n in range(300)))
    for each, position in zip(several, (0, 120, 300), strict=True):
        await tables.transact(
            lambda c, each=each, at=position: checkpoint.restart(c, each, at, time_of(at))
        )

    async with following(worker_of(log, tables, *several, batch=10)) as worker:
        await worker.wait(300, BOUND)
        await until(lambda: {each.state for each in worker.progress.values()} == {"live"})
        await worker.wait(await log.add_live("c", Counted(by=1)), BOUND)
        await until(lambda: {each.state for each in worker.progress.values()} == {"live"})
        await worker.wait(await log.add_live("c", Counted(by=2)), BOUND)

    assert len({(await checkpoint_of(tables, each)).updated_at for each in several}) == 1
    assert {each["after"] for each in log.readers} == {0, 120, 300}
    assert [len(await rows_of(tables, each)) for each in several] == [302, 182, 2]


async def test_those_that_begin_together_have_one_reader(log: MemoryLog, tables: Database) -> None:
    several = [counting(name) for name in ("first", "second", "third")]
    end = log.add("c", *(Counted(by=n) for n in range(30)))

    async with following(worker_of(log, tables, *several, batch=10)) as worker:
        await worker.wait(end, BOUND)

    assert [each["after"] for each in log.readers] == [0]


async def test_paused_and_resumed_at_once_nothing_is_missed(
    log: MemoryLog, tables: Database
) -> None:
    first, second = counting("first"), counting("second")

    async with following(worker_of(log, tables, first, second, batch=3)) as worker:
        for number in range(100):
            end = await log.add_live("c", Counted(by=number))
            worker.pause(["first"] if number % 2 else [])
            if number % 3 == 0:
                await asyncio.sleep(0)
        worker.pause([])
        await worker.wait(end, BOUND)

    assert len(await rows_of(tables, first)) == 100
    assert await rows_of(tables, first) == await rows_of(tables, second)


async def test_the_rate_is_shown_and_kept(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    end = log.add("c", *(Counted(by=n) for n in range(50)))

    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(end, BOUND)
        assert worker.progress["first"].rate > 0
        assert (await checkpoint_of(tables, first)).rate > 0
        worker.pause(["first"])
        assert worker.progress["first"].rate == 0
