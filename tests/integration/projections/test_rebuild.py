"""Rebuilds on a real log: readers see all old rows or all new ones, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, select

from eventstore import nix
from eventstore.application import running
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.nix import FlakeCreated, FlakeInputAdded
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import BoundStatement, Projection
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.store.store import EventStore
from projections.flakes import flakes
from projections.models import flake, flake_input
from projections.rows import changed, created, last_event

BOUND = 45.0
FLAKES = 40
INPUTS = 4
EVENTS = 1 + INPUTS
LOAD = 200
"""Events a second, at most."""

shouting = Projection("flakes", version=2, tables=[flake, flake_input])
"""Another version, each of whose rows differs from the old one's."""


@shouting.handles
def flake_created(event: FlakeCreated, recorded: RecordedEvent) -> BoundStatement:
    return created(
        flake, recorded, path=event.path, description=event.description.upper(), template=None
    )


@shouting.handles
def input_added(event: FlakeInputAdded, recorded: RecordedEvent) -> list[BoundStatement]:
    row = {
        "flake_id": recorded.aggregate_id,
        "name": event.name,
        "url": event.url.upper(),
        "created_at": recorded.time,
        "updated_at": recorded.time,
    }
    return [
        changed(flake, recorded),
        BoundStatement(flake_input.insert(), row | last_event(recorded)),
    ]


class TableView(NamedTuple):
    """What one read transaction finds in three tables, by four selects."""

    version: int
    position: int
    flakes: int
    inputs: int


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return nix.domain(domain_name).codec


@pytest.fixture
async def database(read_model: str) -> AsyncIterator[Database]:
    async with Database(read_model) as database:
        yield database


async def add_flake(store: EventStore, own: str, inputs: int = INPUTS) -> int:
    events = [FlakeInputAdded(name=f"i{number}", url="github:owner") for number in range(inputs)]
    created = FlakeCreated(path="./x", description="mine")
    return (await store.append("flake", own, [created, *events])).position


def see(connection: Connection) -> TableView:
    """Raises if the rows are not of one version, or not those of their checkpoint."""
    known = checkpoint.read(connection, "flakes")
    assert known is not None
    descriptions = connection.execute(select(flake.c.id, flake.c.description)).all()
    urls = connection.execute(select(flake_input.c.flake_id, flake_input.c.url)).all()
    again = connection.execute(select(flake.c.id, flake.c.description)).all()

    assert descriptions == again
    assert {row.description.isupper() for row in descriptions} <= {known.version == 2}
    assert {row.url.isupper() for row in urls} <= {known.version == 2}
    assert len(urls) + len(descriptions) == known.position
    return TableView(known.version, known.position, len(descriptions), len(urls))


class Reader:
    """Reads repeatedly, until it is stopped."""

    def __init__(self, database: Database) -> None:
        self.seen: list[TableView] = []
        self._database = database
        self._stopping = False
        self._awaited: dict[int, asyncio.Event] = {1: asyncio.Event(), 2: asyncio.Event()}

    async def run(self) -> None:
        async with self._database.engine.connect() as connection:
            while not self._stopping:
                self.seen.append(await connection.run_sync(see))
                await connection.rollback()
                self._awaited[self.seen[-1].version].set()

    async def has_seen(self, version: int) -> None:
        await asyncio.wait_for(self._awaited[version].wait(), BOUND)

    def stop(self) -> None:
        self._stopping = True


async def catch_up(store: EventStore, database: Database, projection: Projection) -> None:
    worker = ProjectionWorker(
        store,
        database,
        [projection],
        on_progress=lambda _position, pending: None if pending else worker.stop(),
    )
    await worker.run()


async def test_readers_see_the_old_rows_whole_and_then_the_new_ones(
    store: EventStore, database: Database
) -> None:
    for number in range(FLAKES):
        end = await add_flake(store, f"f{number}")
    await catch_up(store, database, flakes)
    readers = [Reader(database) for _ in range(3)]
    phases: dict[str, int] = {}

    def report(progress: RebuildProgress) -> None:
        phases.setdefault(progress.phase, sum(len(each.seen) for each in readers))

    async with running(*readers):
        for each in readers:
            await each.has_seen(version=1)
        rebuild = Rebuild(store, database, shouting, batch=20, on_progress=report)
        assert await rebuild.run() == end
        for each in readers:
            await each.has_seen(version=2)

    old = TableView(1, end, FLAKES, FLAKES * INPUTS)
    new = old._replace(version=2)
    for each in readers:
        switched = each.seen.index(new)
        assert set(each.seen[:switched]) == {old}
        assert set(each.seen[switched:]) == {new}
    assert phases["switching"] > phases["building"], "nobody read while it was built"


async def test_it_ends_while_events_keep_arriving(store: EventStore, database: Database) -> None:
    """A live worker runs meanwhile, and continues with the new rows; nothing is missing."""
    count = 1
    enough = asyncio.Event()

    class Writer:
        def __init__(self, name: str) -> None:
            self._name = name
            self._stopping = False

        async def run(self) -> None:
            nonlocal count
            while not self._stopping:
                position = await add_flake(store, f"{self._name}-{count}")
                count += 1
                if count > 30:
                    enough.set()
                await worker.wait(position, BOUND)  # no faster than events can be applied
                await asyncio.sleep(EVENTS / LOAD)

        def stop(self) -> None:
            self._stopping = True

    await add_flake(store, "first")
    await catch_up(store, database, shouting)
    reader = Reader(database)
    worker = ProjectionWorker(store, database, [shouting], poll=0.05)
    loud = Rebuild(store, database, shouting, batch=100)
    async with running(worker, reader, Writer("w")):
        await enough.wait()
        before = count
        position = await asyncio.wait_for(loud.run(), BOUND)
        at_switch = count
        await worker.wait(position + 5 * EVENTS, BOUND)

    assert position > before
    assert at_switch > before, "nothing came in meanwhile"
    positions = [each.position for each in reader.seen]
    assert positions == sorted(positions), "what was there once was gone"
    await catch_up(store, database, shouting)
    async with database.engine.connect() as connection:
        seen = await connection.run_sync(see)
    assert (seen.flakes, seen.inputs) == (count, count * INPUTS)
