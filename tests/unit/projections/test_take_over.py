"""A shadow replaces live tables in one transaction: readers see old rows or new ones."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, Table, delete, func, insert, inspect, select, update

from eventstore.errors import InvalidSubject, ProjectionError
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints
from projections.flakes import flakes
from projections.models import flake, flake_input
from tests.unit.projections.counters import moved
from tests.unit.projections.memory import START

ROWS = 20
DIED = 77
TABLES = [flake, flake_input]
InShadow = Callable[[Table], Table]


class TableView(NamedTuple):
    """What one read transaction sees, in three selects: how many rows of which version."""

    flakes: dict[int, int]
    inputs: dict[int, int]
    position: int


OLD, NEW = (TableView({version: ROWS}, {version: ROWS}, version) for version in (1, 2))


def fill(connection: Connection, version: int) -> None:
    stamp = {"version": version, "position": version, "created_at": START, "updated_at": START}
    ids = [f"f{number}" for number in range(ROWS)]
    rows = [{"id": each, "path": "p", "description": "d", **stamp} for each in ids]
    connection.execute(insert(flake), rows)
    inputs = [{"flake_id": each, "name": "n", "url": "u", **stamp} for each in ids]
    connection.execute(insert(flake_input), inputs)


def switch(connection: Connection, in_shadow: InShadow) -> None:
    for table in reversed(TABLES):
        connection.execute(delete(table))
    for table in TABLES:
        columns, shadow = table.c.keys(), in_shadow(table)
        rows = select(*(shadow.c[each] for each in columns))
        connection.execute(insert(table).from_select(columns, rows))
    connection.execute(update(checkpoints).values(position=checkpoints.c.position + 1))


async def see(database: Database) -> TableView:
    counts: list[dict[int, int]] = []
    async with database.engine.connect() as connection:
        for table in TABLES:
            versions = select(table.c.version, func.count()).group_by(table.c.version)
            counts.append({row[0]: row[1] for row in await connection.execute(versions)})
        position = await connection.scalar(select(checkpoints.c.position))
    return TableView(counts[0], counts[1], position or 0)


def location(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


async def table_names(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        return set(
            await connection.run_sync(
                lambda c: inspect(c).get_table_names(c.dialect.default_schema_name)
            )
        )


@pytest.fixture
async def live(database: Database) -> Database:
    """A read model with rows and a checkpoint."""

    def begin(connection: Connection) -> None:
        fill(connection, 1)
        checkpoint.claim(connection, flakes, START)
        moved(connection, flakes, 0, 1, START)

    await database.transact(begin)
    return database


@pytest.fixture
async def shadow(live: Database) -> AsyncIterator[Database]:
    """Other rows beside them."""
    async with live.shadow("flakes") as shadow:
        await shadow.create_tables(TABLES)
        await shadow.transact(lambda connection: fill(connection, 2))
        yield shadow


async def test_a_shadow_is_created_by_opening_and_deleted_by_dropping(
    database: Database,
) -> None:
    live = await table_names(database)
    name = "some_long-name" + "x" * 50
    place = database.shadow(name)
    assert not await place.exists()
    async with place:
        await place.create_tables(TABLES)
        await place.create_tables(TABLES)
        assert await place.exists()
        assert await table_names(place) == {"flake", "flake_input"}
        await place.transact(lambda connection: fill(connection, 1))
    async with database.shadow(name) as again:
        assert await see_versions(again) == {1: ROWS}
        assert not await database.shadow(name[:-1]).exists()
        await again.drop()
    assert not await place.exists()
    await place.drop()

    assert await table_names(database) == live
    async with database.shadow(name) as recreated:
        assert await table_names(recreated) == set()
        await recreated.drop()
    if database.path is not None:
        assert list(database.path.parent.glob("*rebuild*")) == []


async def see_versions(place: Database) -> dict[int, int]:
    async with place.engine.connect() as connection:
        versions = select(flake.c.version, func.count()).group_by(flake.c.version)
        return dict([tuple(row) for row in await connection.execute(versions)])


async def test_the_live_rows_are_not_those_beside(live: Database, shadow: Database) -> None:
    assert await see(live) == OLD
    assert await see_versions(shadow) == {2: ROWS}


async def test_readers_see_all_old_rows_or_all_new_ones(live: Database, shadow: Database) -> None:
    taken = asyncio.Event()
    reported: list[str] = []
    reads: asyncio.Queue[TableView] = asyncio.Queue()

    async def hammer() -> None:
        while not taken.is_set():
            reads.put_nowait(await see(live))

    def work(connection: Connection, in_shadow: InShadow) -> str:
        switch(connection, in_shadow)
        return "taken"

    async with asyncio.TaskGroup() as readers:
        for _ in range(3):
            readers.create_task(hammer())
        seen = [await reads.get() for _ in range(10)]
        assert await live.take_over(shadow, work, committed=reported.append) == "taken"
        while NEW not in seen[-3:]:
            seen.append(await reads.get())
        taken.set()

    assert reported == ["taken"]
    assert seen[0] == OLD
    assert [each for each in seen if each not in (OLD, NEW)] == []
    await shadow.drop()
    assert await see(live) == NEW


async def test_an_error_in_the_middle_leaves_the_old_rows(live: Database, shadow: Database) -> None:
    def work(connection: Connection, in_shadow: InShadow) -> None:
        connection.execute(select(in_shadow(flake)))  # and not read to its end
        switch(connection, in_shadow)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await live.take_over(shadow, work)
    assert await see(live) == OLD
    assert await see_versions(shadow) == {2: ROWS}

    await live.take_over(shadow, switch)
    assert await see(live) == NEW


async def test_a_cancelled_switch_ends_first(live: Database, shadow: Database) -> None:
    reported: list[None] = []
    task: asyncio.Task[None]
    loop = asyncio.get_running_loop()
    cancelled = threading.Event()

    def cancel() -> None:
        task.cancel()
        cancelled.set()

    def work(connection: Connection, in_shadow: InShadow) -> None:
        loop.call_soon_threadsafe(cancel)
        switch(connection, in_shadow)

    task = asyncio.create_task(live.take_over(shadow, work, committed=reported.append))
    with pytest.raises(asyncio.CancelledError):
        await task

    assert cancelled.is_set()
    assert reported == [None]
    assert await see(live) == NEW


def take_over_and_die(place: str) -> None:
    async def run() -> None:
        async with Database(place) as live, live.shadow("flakes") as shadow:

            def work(connection: Connection, in_shadow: InShadow) -> None:
                switch(connection, in_shadow)
                os._exit(DIED)

            await live.take_over(shadow, work)

    asyncio.run(run())


async def test_a_kill_in_the_middle_leaves_the_old_rows(live: Database, shadow: Database) -> None:
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=take_over_and_die, args=(location(live),))
    process.start()
    await asyncio.to_thread(process.join, 30)
    assert process.exitcode == DIED

    assert await see(live) == OLD
    await live.take_over(shadow, switch, retry_timeout=10)
    assert await see(live) == NEW


async def test_only_its_own_shadow_can_take_over(live: Database) -> None:
    nowhere = live.shadow("nowhere")
    with pytest.raises(ProjectionError, match="nowhere does not exist"):
        await live.take_over(nowhere, switch)
    with pytest.raises(ProjectionError, match="is not a shadow of"):
        await live.take_over(live, switch)
    with pytest.raises(ProjectionError, match="is not a shadow of"):
        await nowhere.take_over(live.shadow("nowhere"), switch)
    with pytest.raises(ProjectionError, match="is a shadow itself"):
        nowhere.shadow("more")
    for step in (live.drop(), live.exists()):
        with pytest.raises(ProjectionError, match="is not a shadow"):
            await step
    with pytest.raises(InvalidSubject, match="shadow 'Odd'"):
        live.shadow("Odd")

    assert not await nowhere.exists()
    assert await see(live) == OLD
