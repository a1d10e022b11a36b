"""The projection worker on a real log: it reads what was appended, across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import select

from eventstore import nix
from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.concurrency.backoff import Backoff
from eventstore.errors import PoisonEvent, ProjectionError, UnknownType
from eventstore.messages.chain import chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, Identity, format_timestamp, new_id
from eventstore.messages.headers import Header
from eventstore.messages.types import Event
from eventstore.nix import (
    FlakeCreated,
    FlakeInputAdded,
    FlakeInputRemoved,
    ModuleCreated,
    ModuleUpdated,
)
from eventstore.projections.audit import audit
from eventstore.projections.audit.models import audit_event
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.rebuild.rebuild import Rebuild
from eventstore.projections.worker import runner as follower
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from projections import nix_projections
from projections.models import flake_input, module
from tests.conftest import settings_for
from tests.integration.ledger import declare_log
from tests.unit.projections.following import following as following_on
from tests.unit.projections.following import until

BOUND = 45.0


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


async def test_each_worker_continues_from_the_position_of_the_last_one(
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


async def put(
    store: EventStore, client: Client, codec: Codec, type_: str, changed: Mapping[str, str]
) -> None:
    """Publish an event of module m to the log without the store, as another program could."""
    own, cause = new_id(), new_id()
    head = await store.head("module", "m")
    envelope = Envelope(
        identity=Identity(own, cause, cause),
        type=type_,
        domain=codec.domain,
        timestamp=format_timestamp((await anext(store.read("module", "m"))).time),
        aggregate_id="m",
        version=head.version + 1,
    )
    subject, headers = codec.subjects.log("module", "m"), envelope.to_headers() | dict(changed)
    headers[Header.CHAIN] = chain_value(head.chain, subject, headers, b"{")
    await client.nats.jetstream().publish(subject, b"{", headers=headers)


Put = Callable[..., Awaitable[None]]


@pytest.fixture
def put_odd(store: EventStore, client: Client, codec: Codec) -> Put:
    async def put_one(type_: str, changed: Mapping[str, str] = MappingProxyType({})) -> None:
        await put(store, client, codec, type_, changed)

    return put_one


async def indexed(database: Database) -> list[tuple[int, str]]:
    async with database.engine.connect() as connection:
        columns = select(audit_event.c.position, audit_event.c.type).order_by("position")
        return [(row.position, row.type) for row in await connection.execute(columns)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "BACKOFF", Backoff(0.002, 2.0))


@pytest.mark.usefixtures("impatient")
async def test_an_event_of_an_unknown_type_stops_every_read_model(
    store: EventStore, database: Database, put_odd: Put
) -> None:
    end = await append(store, "module", "m", ModuleCreated(name="m", content="0"))
    await put_odd("ModulePainted")

    worker = ProjectionWorker(store, database, nix_projections())
    with pytest.raises(ProjectionError, match=r"6 projections stopped: .*ModulePainted"):
        await asyncio.wait_for(worker.run(), BOUND)
    for failure in worker.failures:
        assert isinstance(failure, PoisonEvent)
        assert isinstance(failure.__cause__, UnknownType)
        assert failure.position == end + 1
    assert await contents(database) == {"m": "0"}

    async with following(store, database, skip_unknown=True) as worker:
        await worker.wait(end + 1, BOUND)


@pytest.mark.usefixtures("impatient")
async def test_what_cannot_be_read_stops_those_that_need_it_and_the_index_has_it(
    store: EventStore, database: Database, put_odd: Put
) -> None:
    await append(store, "module", "m", ModuleCreated(name="m", content="0"))
    await put_odd("ModuleUpdated")  # with a payload that is no JSON
    end = await append(store, "flake", "f", FlakeCreated(path="/srv", description="mine"))
    worker = ProjectionWorker(store, database, (*nix_projections(), audit))
    async with following_on(worker):
        for name in ("flakes", "audit"):
            await worker.wait(end, BOUND, projection=name)
        with pytest.raises(PoisonEvent, match=r"ModuleUpdated .* position 2: InvalidPayload"):
            await worker.wait(end, BOUND, projection="modules")
        assert len(worker.failures) == 1

        await put_odd("ModuleCreated", {Header.SCHEMA_VERSION: "9"})
        await put_odd("ModulePainted")
        await worker.wait(end + 2, BOUND, projection="audit")
        with pytest.raises(PoisonEvent, match="upgrade this program first"):
            await worker.wait(end + 1, BOUND, projection="flakes")
    assert await indexed(database) == [
        (1, "ModuleCreated"),
        (2, "ModuleUpdated"),
        (3, "FlakeCreated"),
        (4, "ModuleCreated"),
        (5, "ModulePainted"),
    ]


async def test_what_the_store_did_not_write_stops_nobody_and_makes_no_row(
    store: EventStore, client: Client, codec: Codec, database: Database, put_odd: Put
) -> None:
    await append(store, "module", "m", ModuleCreated(name="m", content="0"))
    await put_odd("ModuleUpdated", {Header.TIMESTAMP: "yesterday"})
    for subject in (codec.subjects.log("module", "m"), f"{codec.domain}.log.teapot.x"):
        await client.request(subject, b"{}")
    log = codec.subjects.log("module", "m")
    genuine = await client.nats.jetstream().get_msg(codec.subjects.log_stream, 1)
    assert genuine.headers is not None
    forged = {
        name: value for name, value in genuine.headers.items() if not name.startswith("Nats-")
    } | {Header.EVENT_ID: new_id(), Header.AGGREGATE_VERSION: "2"}
    await client.request(log, b'{"name":"m","content":"forged"}', headers=forged)
    end = await append(store, "module", "m", ModuleUpdated(content="1"))

    worker = ProjectionWorker(store, database, (*nix_projections(), audit))
    async with following_on(worker):
        await worker.wait(end, BOUND)
        assert not worker.failures
    assert await contents(database) == {"m": "1"}
    assert await indexed(database) == [(1, "ModuleCreated"), (end, "ModuleUpdated")]
    assert list(store.findings.by_position("foreign")) == [2, 3, 4, 5]

    # And so does one that begins in the middle, where it has met no event of the aggregate yet.
    await client.request(log, b'{"content":"forged"}', headers=forged)
    last = await append(store, "module", "m", ModuleUpdated(content="2"))
    worker = ProjectionWorker(store, database, (*nix_projections(), audit))
    async with following_on(worker):
        await worker.wait(last, BOUND)
    assert await contents(database) == {"m": "2"}
    for projection in (*nix_projections(), audit):
        await Rebuild(store, database, projection).run()
    assert await contents(database) == {"m": "2"}
    assert await indexed(database) == [
        (1, "ModuleCreated"),
        (end, "ModuleUpdated"),
        (last, "ModuleUpdated"),
    ]


async def test_an_index_of_an_earlier_version_is_rebuilt_automatically(
    store: EventStore, database: Database, put_odd: Put
) -> None:
    end = await append(store, "module", "m", ModuleCreated(name="m", content="0"))
    await put_odd("ModulePainted")
    old = Projection("audit", tables=audit.tables)
    async with running(worker := ProjectionWorker(store, database, [old], skip_unknown=True)):
        await worker.wait(end + 1, BOUND)
    assert await indexed(database) == []

    rebuild = auto_rebuild(store, database)
    async with running(worker := ProjectionWorker(store, database, [audit], rebuild=rebuild)):
        await until(lambda: worker.progress["audit"].state == "live")
    assert await indexed(database) == [(1, "ModuleCreated"), (2, "ModulePainted")]


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
