"""Reads of a database: each is one transaction, a few run at a time, and none delays a writer."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from eventstore.errors import DatabaseUnavailable
from eventstore.projections.database.backends import reader_threads
from eventstore.projections.database.backends.sqlite import READERS
from eventstore.projections.database.database import Database
from tests.unit.projections.counters import make_tables, table
from tests.unit.projections.reading import replaced_by_a_directory

counts = table("counted")
COUNT = select(func.count()).select_from(counts)
BOUND = 20.0


def count(connection: Connection) -> int:
    return connection.execute(COUNT).scalar_one()


def add(connection: Connection) -> None:
    position = count(connection) + 1
    connection.execute(counts.insert().values(position=position, counter="a", by=1))


@pytest.fixture
async def tables(database: Database) -> Database:
    await make_tables(database)
    return database


@pytest.fixture
async def sqlite_tables(sqlite_database: Database) -> Database:
    await make_tables(sqlite_database)
    return sqlite_database


class Gate:
    """A read that has begun and waits to be let through."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self, connection: Connection) -> tuple[int, int]:
        before = count(connection)
        self.begun.set()
        assert self.open.wait(BOUND)
        return before, count(connection)


async def begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, BOUND)


async def test_a_read_sees_one_snapshot(sqlite_tables: Database) -> None:
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(sqlite_tables.read(gate))
        await begun(gate)
        await sqlite_tables.transact(add)
        gate.open.set()

    assert reading.result() == (0, 0)
    assert await sqlite_tables.read(count) == 1


async def test_a_read_sees_what_was_committed_before(tables: Database) -> None:
    for number in range(1, 6):
        await tables.transact(add)
        assert await tables.read(count) == number


async def test_a_read_cannot_write(tables: Database) -> None:
    with pytest.raises((DBAPIError, DatabaseUnavailable)):
        await tables.read(add)
    assert await tables.read(count) == 0


async def test_only_a_few_read_at_a_time_and_others_wait(sqlite_tables: Database) -> None:
    gates = [Gate() for _ in range(READERS)]
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(sqlite_tables.read(each)) for each in gates]
        for each in gates:
            await begun(each)
        late = group.create_task(sqlite_tables.read(count))
        await sqlite_tables.transact(add)  # a writer has a thread of its own
        assert not late.done()
        gates[0].open.set()
        assert await late == 1
        assert not slow[1].done()
        for each in gates:
            each.open.set()


async def test_a_read_that_is_cancelled_before_its_turn_is_not_begun(
    sqlite_tables: Database,
) -> None:
    gates = [Gate() for _ in range(READERS)]
    cancelled = Gate()
    async with asyncio.TaskGroup() as group:
        for each in gates:
            group.create_task(sqlite_tables.read(each))
        for each in gates:
            await begun(each)
        waiting = group.create_task(sqlite_tables.read(cancelled))
        await asyncio.sleep(0)
        waiting.cancel()
        for each in gates:
            each.open.set()

    assert await sqlite_tables.read(count) == 0
    assert waiting.cancelled()
    assert not cancelled.begun.is_set()


async def test_the_result_of_a_cancelled_read_is_dropped(sqlite_tables: Database) -> None:
    gate = Gate()
    reading = asyncio.create_task(sqlite_tables.read(gate))
    await begun(gate)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open.set()

    assert await sqlite_tables.read(count) == 0


async def test_what_a_read_raises_is_raised_and_the_next_one_reads(tables: Database) -> None:
    def fail(_connection: Connection) -> None:
        raise ValueError("no such number")

    def wrong(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM nowhere"))

    for _ in range(READERS + 1):
        with pytest.raises(ValueError, match="no such number"):
            await tables.read(fail)
        with pytest.raises(DBAPIError, match="nowhere"):
            await tables.read(wrong)
    assert await tables.read(count) == 0


async def test_a_read_that_raises_the_end_of_an_iteration_ends(sqlite_tables: Database) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(sqlite_tables.read(lambda _connection: next(iter(()))), BOUND)


async def test_a_file_that_cannot_be_opened_is_unavailable(sqlite_tables: Database) -> None:
    assert sqlite_tables.path is not None
    replaced_by_a_directory(sqlite_tables.path)
    with pytest.raises(DatabaseUnavailable):
        await sqlite_tables.read(count)


async def test_closing_waits_for_reads(sqlite_read_model: Path) -> None:
    gate = Gate()
    async with Database(sqlite_read_model) as database:
        await make_tables(database)
        reading = asyncio.create_task(database.read(gate))
        await begun(gate)
        gate.open.set()

    assert await reading == (0, 0)
    with pytest.raises(RuntimeError, match="closed"):
        await database.read(count)


async def test_closing_interrupts_a_read_that_would_not_end(
    sqlite_read_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_threads, "CLOSE_SECONDS", 0.1)
    begun = threading.Event()
    endless = text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n"
    )

    def read(connection: Connection) -> None:
        begun.set()
        connection.execute(endless)

    async with Database(sqlite_read_model) as database:
        reading = asyncio.create_task(database.read(read))
        assert await asyncio.to_thread(begun.wait, BOUND)

    with pytest.raises(DBAPIError, match="interrupted"):
        await asyncio.wait_for(reading, BOUND)
