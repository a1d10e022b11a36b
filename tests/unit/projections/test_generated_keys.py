"""Generated keys: after a rebuild and a reset, the next one is unique."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Column, Computed, Identity, Integer, MetaData, Table, insert, select
from sqlalchemy import Sequence as Numbers

from eventstore.messages.events import RecordedEvent
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.projections.rebuild.switch import reset
from tests.unit.projections.counters import Counted, codec
from tests.unit.projections.following import following, worker_of
from tests.unit.projections.memory import MemoryLog

BOUND = 45.0
Key = Callable[[], Column[int]]
KEYS: dict[str, Key] = {
    "serial": lambda: Column("Key", Integer, primary_key=True),
    "identity": lambda: Column("Key", Integer, Identity(start=3), primary_key=True),
    "descending": lambda: Column(
        "Key", Integer, Identity(start=-1, increment=-1), primary_key=True
    ),
    "named sequence": lambda: Column("Key", Integer, Numbers("Numbers"), primary_key=True),
}


@pytest.fixture(params=list(KEYS.values()), ids=list(KEYS))
def rows(request: pytest.FixtureRequest) -> Table:
    return Table(
        "Noted Rows",
        MetaData(),
        request.param(),
        Column("by", Integer, nullable=False),
        Column("twice", Integer, Computed("by * 2", persisted=True)),
        sqlite_autoincrement=True,
    )


def making(rows: Table, version: int, count: int) -> Projection:
    """A projection with a number of rows for each event."""
    projection = Projection("noted", version=version, tables=[rows], retries=0)

    @projection.handles
    def counted(event: Counted, _recorded: RecordedEvent) -> Sequence[Statement]:
        return [insert(rows).values(by=event.by) for _ in range(count)]

    return projection


async def see(database: Database, rows: Table) -> list[tuple[Any, ...]]:
    """The rows without their keys, which are unique."""
    async with database.engine.connect() as connection:
        found = await connection.execute(select(rows.c.by, rows.c.twice))
        return sorted(tuple(row) for row in found)


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(codec)
    made.add("c", *(Counted(by=number) for number in range(1, 4)))
    return made


async def project(log: MemoryLog, database: Database, projection: Projection) -> None:
    """Bring the live rows to the end of the log; raises poison events."""
    async with following(worker_of(log, database, projection)) as worker:
        await worker.wait(log.end, BOUND)


@pytest.mark.parametrize("count", [0, 2])
async def test_events_go_on_after_a_rebuild(
    database: Database, log: MemoryLog, rows: Table, count: int
) -> None:
    await database.create_tables([rows])
    await project(log, database, making(rows, 1, 1))
    changed = making(rows, 2, count)

    await Rebuild(log, database, changed).run()  # type: ignore[arg-type]
    log.add("c", Counted(by=4))
    await project(log, database, changed)

    assert await see(database, rows) == [(by, 2 * by) for by in range(1, 5) for _ in range(count)]


async def test_events_that_come_in_during_the_switch_are_applied_on_top(
    database: Database, log: MemoryLog, rows: Table
) -> None:
    await database.create_tables([rows])
    coming: list[asyncio.Task[int]] = []

    def report(progress: RebuildProgress) -> None:
        if progress.phase == "switching":
            coming.append(asyncio.create_task(log.add_live("c", Counted(by=4))))

    rebuild = Rebuild(log, database, making(rows, 1, 2), on_progress=report)  # type: ignore[arg-type]
    assert [await rebuild.run()] == await asyncio.gather(*coming)

    assert await see(database, rows) == [(by, 2 * by) for by in range(1, 5) for _ in range(2)]


async def test_a_switch_that_fails_leaves_the_keys_of_the_old_rows(
    database: Database, log: MemoryLog, rows: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.create_tables([rows])
    old = making(rows, 1, 3)
    await project(log, database, old)

    def fail(*_arguments: object) -> None:
        raise LookupError("at the last moment")

    with monkeypatch.context() as patched:
        patched.setattr("eventstore.projections.database.checkpoint.restart", fail)
        with pytest.raises(LookupError):
            await Rebuild(log, database, making(rows, 2, 1)).run()  # type: ignore[arg-type]
    log.add("c", Counted(by=4))
    await project(log, database, old)

    assert await see(database, rows) == [(by, 2 * by) for by in range(1, 5) for _ in range(3)]


async def test_events_go_on_after_a_reset(database: Database, log: MemoryLog, rows: Table) -> None:
    await database.create_tables([rows])
    projection = making(rows, 1, 1)
    await Rebuild(log, database, projection).run()  # type: ignore[arg-type]

    await database.transact(lambda connection: reset(connection, projection))
    await project(log, database, projection)

    assert await see(database, rows) == [(by, 2 * by) for by in range(1, 4)]


@pytest.mark.parametrize("own", [-1, 0])
async def test_keys_that_no_sequence_could_have_made_are_left_alone(
    database: Database, own: int
) -> None:
    rows = Table("own_keys", MetaData(), Column("key", Integer, primary_key=True))
    await database.create_tables([rows])
    projection = Projection("own_keys", tables=[rows])

    @projection.handles
    def counted(event: Counted) -> Statement:
        return insert(rows).values(key=event.by)

    log = MemoryLog(codec)
    log.add("c", Counted(by=own))
    await Rebuild(log, database, projection).run()  # type: ignore[arg-type]

    async with database.engine.connect() as connection:
        assert (await connection.scalars(select(rows.c.key))).all() == [own]
