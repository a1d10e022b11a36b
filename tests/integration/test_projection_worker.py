"""The projection worker on a real log: what it reads is what was appended, whoever restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select

from eventstore import nix
from eventstore.client import Client, connect
from eventstore.codec import Codec
from eventstore.envelope import Envelope, Identity, format_timestamp, new_id
from eventstore.errors import UnknownType, UnreadableEvent
from eventstore.messages import Event
from eventstore.nix import (
    FlakeCreated,
    FlakeInputAdded,
    FlakeInputRemoved,
    ModuleCreated,
    ModuleUpdated,
)
from eventstore.server import EmbeddedServer
from eventstore.store import EventStore
from projections.database import Database
from projections.nix import nix_projections
from projections.nix.models import flake_input, module
from projections.worker import ProjectionWorker
from tests.conftest import settings_for
from tests.integration.ledger import declare_log

BOUND = 20.0


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return nix.domain(domain_name).codec


@pytest.fixture
async def database(read_model: str) -> AsyncIterator[Database]:
    async with Database(read_model) as database:
        yield database


@asynccontextmanager
async def following(
    store: EventStore, database: Database, **options: Any
) -> AsyncIterator[ProjectionWorker]:
    worker = ProjectionWorker(store, database, nix_projections(), **options)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        yield worker
        worker.stop()


async def append(store: EventStore, aggregate: str, aggregate_id: str, *events: Event) -> int:
    """The position of the last of the events."""
    appended = await store.append(aggregate, aggregate_id, events)
    return appended.position


async def inputs(database: Database) -> dict[str, str]:
    async with database.engine.connect() as connection:
        rows = await connection.execute(select(flake_input.c.name, flake_input.c.url))
        return {row.name: row.url for row in rows}


async def contents(database: Database) -> dict[str, str]:
    async with database.engine.connect() as connection:
        rows = await connection.execute(select(module.c.id, module.c.content))
        return {row.id: row.content for row in rows}


async def test_the_history_and_then_what_happens(store: EventStore, database: Database) -> None:
    await append(store, "flake", "f1", FlakeCreated(path="/srv", description="mine"))
    early = await append(store, "flake", "f1", FlakeInputAdded(name="a", url="path:/a"))

    async with following(store, database) as worker:
        await worker.wait(early, BOUND)
        assert await inputs(database) == {"a": "path:/a"}
        late = await append(
            store,
            "flake",
            "f1",
            FlakeInputRemoved(name="a"),
            FlakeInputAdded(name="b", url="path:/b"),
        )
        await worker.wait(late, BOUND)
        assert await inputs(database) == {"b": "path:/b"}
        assert (worker.position, worker.pending) == (late, 0)
        assert {each.state for each in worker.progress.values()} == {"live"}


async def test_an_empty_log_is_caught_up(store: EventStore, database: Database) -> None:
    caught_up = asyncio.Event()
    async with following(store, database, on_progress=lambda *_: caught_up.set()) as worker:
        await asyncio.wait_for(caught_up.wait(), BOUND)
        assert worker.progress["flakes"].state == "live"


async def test_each_worker_goes_on_where_the_last_one_was(
    store: EventStore, database: Database
) -> None:
    end = await append(store, "module", "m", ModuleCreated(name="m", content="0"))
    for number in range(1, 6):
        async with following(store, database, batch=2) as worker:
            await worker.wait(end, BOUND)
        handled = worker.progress["modules"].applied
        assert handled == (1 if number == 1 else 3)
        changed = [ModuleUpdated(content=f"{number}.{n}") for n in range(3)]
        end = await append(store, "module", "m", *changed)

    async with following(store, database) as worker:
        await worker.wait(end, BOUND)
    assert await contents(database) == {"m": "5.2"}


async def test_an_event_that_cannot_be_read_stops_it_where_it_stands(
    store: EventStore, database: Database, client: Client, codec: Codec
) -> None:
    end = await append(store, "module", "m", ModuleCreated(name="m", content="0"))
    own, cause = new_id(), new_id()
    envelope = Envelope(
        identity=Identity(own, cause, cause),
        type="ModulePainted",
        domain=codec.domain,
        timestamp=format_timestamp((await anext(store.read("module", "m"))).time),
        aggregate_id="m",
        version=2,
    )
    await client.nats.jetstream().publish(
        codec.subjects.log("module", "m"), b"{}", headers=envelope.to_headers()
    )

    worker = ProjectionWorker(store, database, nix_projections())
    with pytest.raises(UnreadableEvent, match="ModulePainted") as stopped:
        await asyncio.wait_for(worker.run(), BOUND)
    assert isinstance(stopped.value.cause, UnknownType)
    assert stopped.value.position == end + 1
    assert await contents(database) == {"m": "0"}

    async with following(store, database, skip_unknown=True) as worker:
        await worker.wait(end + 1, BOUND)


async def test_it_outlives_the_server(server: EmbeddedServer, database: Database) -> None:
    domain = nix.domain()
    async with connect(settings_for(server.url)) as client:
        await declare_log(client, domain.codec)
        async with EventStore(client, domain.codec) as store:
            end = await append(store, "module", "m", ModuleCreated(name="m", content="0"))
            async with following(store, database) as worker:
                await worker.wait(end, BOUND)
                server.kill()
                await server.restart()
                end = await append(store, "module", "m", ModuleUpdated(content="1"))
                await worker.wait(end, BOUND)
                assert await contents(database) == {"m": "1"}
                assert worker.progress["modules"].applied == 2
