"""The log's identity: rows of one log are never continued from another."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.errors import OtherLog
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from tests.unit.projections.counters import Counted, codec, counting, make_tables, rows_of
from tests.unit.projections.following import BOUND, checkpoint_of, following, worker_of
from tests.unit.projections.memory import MemoryLog, time_of


@pytest.fixture
async def tables(database: Database) -> Database:
    counting("first")
    await make_tables(database)
    return database


async def test_a_longer_log_is_another_log(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))
    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(1, BOUND)
    assert (await checkpoint_of(tables, first)).log == log.name

    other = MemoryLog(codec)
    other.name = "2027-01-01T00:00:00Z MEMORY"
    other.add("c", *[Counted(by=2)] * 5)
    with pytest.raises(OtherLog, match="first at position 1 was built from another log") as error:
        await worker_of(other, tables, first).run()

    assert "--database" in str(error.value)
    assert "eventstore projection rebuild --all" in str(error.value)
    assert await rows_of(tables, first) == [(1, 1)]
    assert (await checkpoint_of(tables, first)).error is None


async def test_a_worker_does_not_stand_by_for_one_that_reads_another_log(
    log: MemoryLog, tables: Database
) -> None:
    """Two applications with the same database, by mistake: their projections have one name."""
    first = counting("first")
    log.add("c", Counted(by=1))
    other = MemoryLog(codec)
    other.name = "2027-01-01T00:00:00Z MEMORY"

    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(1, BOUND)
        with pytest.raises(OtherLog, match="first at position 1 was built from another log"):
            await asyncio.wait_for(worker_of(other, tables, first).run(), BOUND)

    assert await rows_of(tables, first) == [(1, 1)]


async def test_rows_that_do_not_say_their_log_are_given_it(
    log: MemoryLog, tables: Database
) -> None:
    first = counting("first")

    await tables.transact(lambda c: checkpoint.claim(c, first, time_of(0)))
    assert (await checkpoint_of(tables, first)).log is None

    async with following(worker_of(log, tables, first)) as worker:
        await asyncio.wait_for(worker.ready.wait(), BOUND)

    assert (await checkpoint_of(tables, first)).log == log.name
