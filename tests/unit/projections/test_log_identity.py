"""The log's identity: rows of one log, or history, are never continued from another."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.errors import LogDiverged, OtherLog
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from tests.unit.projections.counters import Counted, codec, counting, make_tables, rows_of
from tests.unit.projections.following import BOUND, checkpoint_of, following, until, worker_of
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


def restored(log: MemoryLog, *, events: int) -> MemoryLog:
    """The same log after it went back, and others have appended to it."""
    other = MemoryLog(codec)
    other.history = "another"
    assert other.name == log.name
    other.add("c", *[Counted(by=2)] * events)
    return other


async def test_a_history_that_the_log_no_longer_has_is_noticed_by_what_was_seen(
    log: MemoryLog, tables: Database
) -> None:
    first = counting("first")
    log.history = "first"
    log.add("c", Counted(by=1), Counted(by=1))
    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(2, BOUND)
    before = await checkpoint_of(tables, first)
    assert before.mark is not None
    assert (before.mark.position, before.mark.event_id) == (2, log.events[1].id)

    for events in (2, 5):
        with pytest.raises(LogDiverged, match=r"at position 2 was event .* projection first has"):
            await worker_of(restored(log, events=events), tables, first).run()
    assert await rows_of(tables, first) == [(1, 1), (2, 1)]
    assert await checkpoint_of(tables, first) == before


async def test_a_standby_compares_what_was_seen_when_it_takes_over(
    log: MemoryLog, tables: Database
) -> None:
    first, second = counting("first"), counting("first")
    log.history = "first"
    log.add("c", Counted(by=1))
    async with following(worker_of(log, tables, first)) as active:
        await active.wait(1, BOUND)
        standby = worker_of(restored(log, events=5), tables, second)
        taking_over = asyncio.create_task(standby.run())
        await until(standby.ready.is_set)
        active.stop()
        with pytest.raises(LogDiverged, match="at position 1"):
            await asyncio.wait_for(taking_over, BOUND)
    assert await rows_of(tables, first) == [(1, 1)]


async def test_what_an_earlier_release_has_not_noted_is_noted_at_first_sight(
    log: MemoryLog, tables: Database
) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))
    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(1, BOUND)
    assert (await checkpoint_of(tables, first)).seen is None
    known = MemoryLog(codec)
    known.history = "first"
    known.add("c", Counted(by=1))
    async with following(worker_of(known, tables, first)) as worker:
        await until(worker.ready.is_set)
    assert (await checkpoint_of(tables, first)).mark == await known.mark_at(1, live=True)
