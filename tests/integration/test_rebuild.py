"""Rebuilding on a real log: readers see all old rows or all new ones, whatever goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, select

from eventstore import nix
from eventstore.codec import Codec
from eventstore.envelope import RecordedEvent
from eventstore.nix import FlakeCreated, FlakeInputAdded
from eventstore.store import EventStore
from projections import checkpoint
from projections.database import Database
from projections.nix.flakes import flakes
from projections.nix.models import flake, flake_input
from projections.nix.rows import changed, created, last_event
from projections.projection import Bound, Projection
from projections.rebuild import Rebuild, RebuildProgress
from projections.worker import ProjectionWorker

BOUND = 30.0
FLAKES = 60
INPUTS = 4

shouting = Projection("flakes", version=2, tables=[flake, flake_input])
"""Another version, each of whose rows can be told from the old one's."""


@shouting.handles
def flake_created(event: FlakeCreated, recorded: RecordedEvent) -> Bound:
    return created(
        flake, recorded, path=event.path, description=event.description.upper(), template=None
    )


@shouting.handles
def input_added(event: FlakeInputAdded, recorded: RecordedEvent) -> list[Bound]:
    row = {
        "flake_id": recorded.aggregate_id,
        "name": event.name,
        "url": event.url.upper(),
        "created_at": recorded.time,
        "updated_at": recorded.time,
    }
    return [changed(flake, recorded), Bound(flake_input.insert(), row | last_event(recorded))]


class Seen(NamedTuple):
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


def see(connection: Connection) -> Seen:
    """Raises where what is seen is not of one version and whole."""
    known = checkpoint.read(connection, "flakes")
    assert known is not None
    descriptions = connection.execute(select(flake.c.id, flake.c.description)).all()
    urls = connection.execute(select(flake_input.c.flake_id, flake_input.c.url)).all()
    again = connection.execute(select(flake.c.id, flake.c.description)).all()

    assert descriptions == again
    assert {row.description for row in descriptions} == {"MINE" if known.version == 2 else "mine"}
    assert {row.url.isupper() for row in urls} == {known.version == 2}
    assert {row.flake_id for row in urls} == {row.id for row in descriptions}
    assert len(urls) == INPUTS * len(descriptions)
    assert len(urls) + len(descriptions) == known.position
    return Seen(known.version, known.position, len(descriptions), len(urls))


async def hammer(database: Database, seen: list[Seen], stop: asyncio.Event) -> None:
    async with database.engine.connect() as connection:
        while not stop.is_set():
            seen.append(await connection.run_sync(see))
            await connection.rollback()


async def catch_up(store: EventStore, database: Database, end: int) -> None:
    worker = ProjectionWorker(
        store,
        database,
        [flakes],
        on_progress=lambda position, _pending: worker.stop() if position == end else None,
    )
    await worker.run()


async def test_readers_see_the_old_rows_whole_and_then_the_new_ones(
    store: EventStore, database: Database
) -> None:
    for number in range(FLAKES):
        end = await add_flake(store, f"f{number}")
    await catch_up(store, database, end)
    seen: list[list[Seen]] = [[], [], []]
    stop = asyncio.Event()

    def told(progress: RebuildProgress) -> None:
        phases.setdefault(progress.phase, [len(each) for each in seen])

    phases: dict[str, list[int]] = {}
    async with asyncio.TaskGroup() as readers:
        for each in seen:
            readers.create_task(hammer(database, each, stop))
        while not all(seen):
            await asyncio.sleep(0)
        rebuild = Rebuild(store, database, shouting, batch=20, on_progress=told)
        position = await rebuild.run()
        while not all(each[-1].version == 2 for each in seen):
            await asyncio.sleep(0)
        stop.set()

    old = Seen(1, end, FLAKES, FLAKES * INPUTS)
    assert position == end
    for each in seen:
        switched = each.index(old._replace(version=2))
        assert set(each[:switched]) == {old}
        assert set(each[switched:]) == {old._replace(version=2)}
    assert phases["switching"] > phases["building"], "nobody read while it was built"
