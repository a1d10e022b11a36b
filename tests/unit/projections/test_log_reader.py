"""Log readers: one that is behind delays no other, and in the end there is one for all."""

from __future__ import annotations

import asyncio
import random

import pytest
from sqlalchemy import Connection, delete

from eventstore.concurrency.backoff import Backoff
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.worker import runner as follower
from eventstore.projections.worker.worker import ProjectionWorker
from tests.unit.projections.counters import Counted, counting, make_tables, rows_of
from tests.unit.projections.following import (
    BOUND,
    Poison,
    checkpoint_of,
    following,
    until,
    worker_of,
)
from tests.unit.projections.memory import MemoryLog, time_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "BACKOFF", Backoff(0.002, 0.01))


@pytest.fixture
async def tables(database: Database) -> Database:
    for name in ("first", "second", "third"):
        counting(name)
    await make_tables(database)
    return database


async def test_one_that_is_far_behind_holds_nobody_up(log: MemoryLog, tables: Database) -> None:
    log.add("c", *(Counted(by=n) for n in range(200)))
    first, second = counting("first"), counting("second")
    async with following(worker_of(log, tables, second)) as worker:
        await worker.wait(200, BOUND)

    async with following(worker_of(log, tables, first, second, batch=10)) as worker:
        worker.pause(["first"])
        await worker.wait(await log.add_live("c", Counted(by=1)), BOUND, projection="second")
        assert worker.progress["second"].state == "live"
        worker.pause([])
        # Pages of the slow one and of the live one alternate; none waits for the other's end.
        while worker.progress["first"].position < 150:
            end = await log.add_live("c", Counted(by=1))
            await worker.wait(end, BOUND, projection="second")
            assert worker.progress["second"].state == "live"
        await worker.wait(log.end, BOUND)

    assert await rows_of(tables, first) == await rows_of(tables, second)


async def test_in_the_end_one_transaction_moves_all(log: MemoryLog, tables: Database) -> None:
    several = [counting(name) for name in ("first", "second", "third")]
    log.add("c", *(Counted(by=n) for n in range(300)))

    def restart(connection: Connection) -> None:
        for each, at in zip(several, (0, 120, 300), strict=True):
            checkpoint.restart(connection, each, at, time_of(at))

    await tables.transact(restart)

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


async def test_paused_and_resumed_immediately_nothing_is_missed(
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


class Chance:
    """Random pauses and resets of some projections."""

    def __init__(self, seed: int, log: MemoryLog, database: Database) -> None:
        self.random = random.Random(seed)  # noqa: S311  # no secret
        self.projections = [
            counting(name, fails=self._stumble, retries=1_000)
            for name in ("first", "second", "third")
        ]
        self._log = log
        self._database = database

    def _stumble(self, _event: Counted) -> None:
        if self.random.random() < 0.02:
            raise Poison("this time")

    async def happen(self, worker: ProjectionWorker) -> None:
        """Some events, and perhaps a pause, or a checkpoint that is set back."""
        for _ in range(self.random.randrange(4)):
            await self._log.add_live(self.random.choice("ab"), Counted(by=self._log.end))
        match self.random.randrange(5):
            case 0:
                worker.pause(self.random.sample(list(worker.progress), self.random.randrange(3)))
            case 1:
                await self._database.transact(self._set_back)
            case 2:
                await asyncio.sleep(0.002)

    def _set_back(self, connection: Connection) -> None:
        each = self.random.choice(self.projections)
        rows, position = each.tables[0], self.random.randrange(self._log.end + 1)
        known = checkpoint.lock(connection, each.name)
        if known is not None and position <= known.position:
            connection.execute(delete(rows).where(rows.c.position > position))
            checkpoint.restart(connection, each, position, time_of(position))


@pytest.mark.parametrize("seed", range(4))
async def test_in_any_interleaving_nothing_is_missed_or_repeated(
    log: MemoryLog, tables: Database, seed: int
) -> None:
    chance = Chance(seed, log, tables)

    async with following(worker_of(log, tables, *chance.projections, batch=4)) as worker:
        for _ in range(80):
            await chance.happen(worker)
        worker.pause([])
        await until(lambda: {each.state for each in worker.progress.values()} == {"live"})
        await worker.wait(await log.add_live("a", Counted(by=log.end)), BOUND)

    for each in chance.projections:
        assert await rows_of(tables, each) == [(n + 1, n) for n in range(log.end)]


async def test_the_rate_is_shown_and_stored(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    end = log.add("c", *(Counted(by=n) for n in range(50)))

    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(end, BOUND)
        assert worker.progress["first"].rate > 0
        assert (await checkpoint_of(tables, first)).rate > 0
        worker.pause(["first"])
        assert worker.progress["first"].rate == 0
