"""A log that version 1 of a program wrote is read by version 3, everywhere, and stays as it is."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from eventstore.application import running
from eventstore.audit import aggregate_history, verify
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes
from eventstore.config import StreamSettings
from eventstore.errors import (
    InvalidHeader,
    InvalidPayload,
    UnreadableEvent,
    UnsupportedSchema,
    VersionGap,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import POSITION, Header, position_of
from eventstore.messages.types import Event
from eventstore.messages.upcasting import Upcaster
from eventstore.projections.audit import audit
from eventstore.projections.audit.models import audit_event
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.head import Head
from eventstore.store.publisher import EventPublisher
from eventstore.store.store import EventStore
from eventstore.subscribers.publication import PART, PART_OF, read_publication
from eventstore.subscribers.subscriber import EventSubscriber
from eventstore.transfer import export_log
from tests.conftest import settings_for
from tests.integration.depot import (
    AddItem,
    ItemAdded,
    ParcelArrived,
    ParcelBooked,
    ParcelClosed,
    depot,
    kept_log,
    load,
    subjects,
)
from tests.integration.feeding import public, until_fed

LAST = 11
MEANT: list[tuple[str, int, int, int, Event]] = [  # id, position, version, part, event
    ("p1", 1, 1, 0, ParcelBooked(customer="Zoë & Söhne", weight_kg=12.5, fragile=False)),
    ("p2", 2, 1, 0, ParcelBooked(customer="ben", weight_kg=3.0, fragile=False)),
    ("p2", 3, 2, 0, ItemAdded(name="cup")),
    ("p2", 3, 2, 1, ItemAdded(name="saucer")),
    ("p2", 3, 2, 2, ItemAdded(name="spoon")),
    ("p2", 3, 2, 3, ParcelClosed()),
    ("p1", 4, 2, 0, ParcelArrived(place="Oslo", country="NO")),
    ("p3", 5, 1, 0, ParcelBooked(customer="cy", weight_kg=0.25, fragile=True)),
    ("p1", 6, 3, 0, ItemAdded(name="lamp")),
    ("p3", 7, 2, 0, ParcelArrived(place="Rome", country="IT")),
    ("p1", 10, 5, 0, ParcelArrived(place="Kyiv", country="?")),
]


@pytest.fixture
async def client(nats_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A client; the streams have the name of the stored log, and are deleted with it."""
    specs = topology(subjects, StreamSettings(duplicate_window_ms=100))
    async with connect(settings_for(nats_server.url, "depot")) as client:
        await declare(client, specs)
        await load(client)
        try:
            yield client
        finally:
            for spec in specs:
                await client.api(f"STREAM.DELETE.{spec.name}")


@pytest.fixture
async def store(client: Client) -> AsyncIterator[EventStore]:
    async with EventStore(client, depot.codec) as store:
        yield store


def seen(events: list[RecordedEvent]) -> list[tuple[str, int, int, int, Event]]:
    return [(e.aggregate_id, e.position, e.version, e.part, e.data) for e in events]


async def read(store: EventStore, aggregate_id: str, **options: Any) -> list[RecordedEvent]:
    return [event async for event in store.read("parcel", aggregate_id, **options)]


# Reading


async def test_all_is_read_as_the_events_of_today(store: EventStore) -> None:
    events = [event async for event in store.read_all()]
    assert seen(events) == MEANT
    assert [event.type for event in events] == [type(meant[-1]).__name__ for meant in MEANT]


@pytest.mark.parametrize("aggregate_id", ["p1", "p2", "p3"])
async def test_one_aggregate_is_read_as_the_events_of_today(
    store: EventStore, aggregate_id: str
) -> None:
    meant = [each for each in MEANT if each[0] == aggregate_id]
    assert seen(await read(store, aggregate_id)) == meant


async def test_reading_after_a_version_or_a_head_counts_what_is_stored(store: EventStore) -> None:
    assert seen(await read(store, "p1", after=3)) == [MEANT[10]]
    assert seen(await read(store, "p2", after=1)) == MEANT[2:6]
    head = Head.after((await read(store, "p2"))[2])
    assert await read(store, "p2", after=head) == []


async def test_the_record_says_how_it_was_written(store: EventStore) -> None:
    lines = kept_log()
    events = [event async for event in store.read_all()]
    for event in events:
        line = lines[event.position - 1]
        assert event.payload == line.payload.encode()
        assert event.headers == line.headers
        assert event.envelope.type == line.headers[Header.EVENT_TYPE]
        assert (event.envelope.schema_version, event.is_upcast) == (1, True)
    assert len({event.id for event in events if event.position == 3}) == 1


async def test_what_is_stored_stays_as_it_is_and_its_chain_holds(client: Client) -> None:
    chain: dict[str, str] = defaultdict(lambda: GENESIS)
    reader = DirectReader(client, subjects.log_stream)
    stored = [message async for message in reader.messages(subjects.all_log)]
    for message, line in zip(stored, kept_log(), strict=True):
        assert (message.subject, message.payload) == (line.subject, line.payload.encode())
        value = chain_value(
            chain[message.subject], message.subject, message.headers, message.payload
        )
        assert value == message.headers[Header.CHAIN]
        chain[message.subject] = value


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_a_page_never_parts_what_belongs_together(store: EventStore, size: int) -> None:
    pages = [page async for page in store.pages(max_events=size)]
    assert [each for page in pages for each in seen(page.events)] == MEANT
    ends = [page.position for page in pages]
    assert ends == sorted(set(ends))
    assert ends[-1] == LAST
    for page, start in zip(pages, [0, *ends], strict=False):
        assert {event.position for event in page.events} <= set(range(start + 1, page.position + 1))


async def test_a_version_that_is_missing_is_missed_though_events_are_dropped(
    client: Client, store: EventStore
) -> None:
    line = kept_log()[-1]
    headers = line.headers
    for version in ("9", "10"):
        own = {
            Header.AGGREGATE_VERSION: version,
            Header.EVENT_ID: (event_id := f"6f1d3c1e-0000-4000-8000-0000000000{version:>02}"),
            Header.MESSAGE_ID: event_id,
        }
        payload = line.payload.encode()
        chain = chain_value(headers[Header.CHAIN], line.subject, {**headers, **own}, payload)
        headers = {**headers, **own, Header.CHAIN: chain}
        await publish_acked(client, line.subject, payload, headers)
    with pytest.raises(VersionGap, match="no version 5"):
        await read(store, "p3")


# What cannot be read


async def test_what_an_upcaster_cannot_take_is_named_with_its_position(client: Client) -> None:
    class ParcelBooked(Event, subject="parcel.booked", schema_version=2):
        customer: str

    def by_weight(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "weight": float(data["weight"])}

    codec = Codec("depot", [], [ParcelBooked], [Upcaster.of(("ParcelBooked", 1), None, by_weight)])
    async with EventStore(client, codec) as store:
        with pytest.raises(UnreadableEvent) as failure:
            await anext(store.read("parcel", "p1"))
    assert failure.value.position == 1
    assert isinstance(failure.value.cause, InvalidPayload)
    assert str(failure.value).startswith(
        "event at position 1 (depot.log.parcel.p1): payload of ParcelBooked version 1, "
        "upcaster by_weight: ValueError: could not convert"
    )


async def test_what_a_newer_program_wrote_is_refused_with_advice(
    client: Client, store: EventStore
) -> None:
    line = kept_log()[0]
    headers = {**line.headers, Header.SCHEMA_VERSION: "9", Header.AGGREGATE_ID: "p4"}
    headers[Header.EVENT_ID] = headers[Header.MESSAGE_ID] = "6f1d3c1e-0000-4000-8000-00000000000f"
    headers[Header.AGGREGATE_VERSION] = "1"
    subject = subjects.log("parcel", "p4")
    headers[Header.CHAIN] = chain_value(GENESIS, subject, headers, b"{}")
    await publish_acked(client, subject, b"{}", headers)
    pages = store.pages(skip_unknown=True)
    assert seen((await anext(pages)).events) == MEANT
    with pytest.raises(UnreadableEvent, match="up to 3: upgrade this program first") as failure:
        await anext(pages)
    assert isinstance(failure.value.cause, UnsupportedSchema)
    assert failure.value.position == LAST + 1


# Commands


@pytest.fixture
async def commands(client: Client, store: EventStore) -> AsyncIterator[CommandClient]:
    handler = CommandHandler(store, depot, Outcomes(client, subjects))
    worker = CommandWorker(client, depot.codec, handler)
    async with CommandClient(client, depot.codec) as commands, running(worker):
        yield commands


async def test_a_command_is_decided_on_the_history_of_version_1(
    store: EventStore, commands: CommandClient
) -> None:
    refused = await commands.execute(AddItem(name="fork"), "p2")
    assert (refused.status, refused.code, refused.version) == ("rejected", "closed", 2)
    assert refused.message == "closed with cup, saucer, spoon in "
    done = await commands.execute(AddItem(name="fork"), "p1")
    assert (done.status, done.version, done.position) == ("success", 6, LAST + 1)
    event = (await read(store, "p1"))[-1]
    assert (event.data, event.envelope.schema_version, event.is_upcast) == (
        ItemAdded(name="fork"),
        1,
        False,
    )


async def test_an_aggregate_whose_last_event_is_dropped_can_go_on(commands: CommandClient) -> None:
    outcomes = [await commands.execute(AddItem(name=name), "p3") for name in ("cup", "mug")]
    assert [(each.status, each.version) for each in outcomes] == [("success", 5), ("success", 6)]


@pytest.mark.parametrize(("number", "position"), [(5, 6), (2, 3), (8, 11)])
async def test_a_command_of_version_1_that_is_redelivered_is_not_decided_again(
    store: EventStore, commands: CommandClient, number: int, position: int
) -> None:
    line = kept_log()[position - 1]
    again = await commands.execute(
        AddItem(name="again"),
        line.headers[Header.AGGREGATE_ID],
        command_id=f"6f1d3c1e-0000-4000-8000-00000000000{number}",
    )
    assert (again.status, again.position) == ("success", position)
    assert again.event_ids[-1] == line.headers[Header.EVENT_ID]
    assert again.message.endswith(line.headers[Header.EVENT_TYPE])
    assert seen([event async for event in store.read_all()]) == MEANT


# Projections

rows = Table(
    "depot_item",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("parcel", String(50)),
    Column("version", Integer),
    Column("what", String(50)),
)


def items() -> Projection:
    projection = Projection("items", tables=[rows])

    @projection.handles
    def changed(
        event: ParcelArrived | ItemAdded | ParcelClosed, recorded: RecordedEvent
    ) -> Statement:
        what = getattr(event, "name", None) or getattr(event, "place", recorded.type)
        return insert(rows).values(
            parcel=recorded.aggregate_id, version=recorded.version, what=what
        )

    return projection


@pytest.mark.parametrize("batch", [1, 1000])
async def test_rows_are_made_of_every_part(store: EventStore, tmp_path: Path, batch: int) -> None:
    async with Database(tmp_path / "rows.sqlite") as database:
        await database.migrate()
        await database.transact(rows.metadata.create_all)
        worker = ProjectionWorker(store, database, [items()], batch=batch)
        async with asyncio.timeout(20), running(worker):
            await worker.wait(LAST, timeout=20)
            assert worker.progress["items"].applied == 8
        async with database.engine.connect() as connection:
            found = await connection.execute(select(rows.c.parcel, rows.c.version, rows.c.what))
    assert [tuple(row) for row in found] == [
        *(("p2", 2, "cup"), ("p2", 2, "saucer"), ("p2", 2, "spoon"), ("p2", 2, "ParcelClosed")),
        *(("p1", 2, "Oslo"), ("p1", 3, "lamp"), ("p3", 2, "Rome"), ("p1", 5, "Kyiv")),
    ]


# Audit and export


async def test_what_older_programs_wrote_verifies(client: Client) -> None:
    assert [found async for found in verify(client, depot.codec)] == []


async def test_a_history_shows_what_is_read_today(client: Client) -> None:
    history = await aggregate_history(client, depot, "parcel", "p2")
    assert [(step.version, step.type) for step in history.steps] == [
        (1, "ParcelBooked"),
        *[(2, "ItemAdded")] * 3,
        (2, "ParcelClosed"),
    ]
    assert history.state["items"] == ("cup", "saucer", "spoon")
    assert history.chain.verified
    assert history.earlier == 0
    shortened = await aggregate_history(client, depot, "parcel", "p2", limit=2)
    assert (len(shortened.steps), shortened.earlier) == (2, 3)
    before_one_that_is_dropped = await aggregate_history(client, depot, "parcel", "p1", at=3)
    assert (before_one_that_is_dropped.version, before_one_that_is_dropped.later) == (3, 2)
    early = await aggregate_history(client, depot, "parcel", "p2", at=1)
    assert (early.version, early.later, early.state["items"]) == (1, 1, ())


async def test_a_history_shows_what_is_dropped_and_the_state_as_it_was(client: Client) -> None:
    before = await aggregate_history(client, depot, "parcel", "p1", at=3)
    history = await aggregate_history(client, depot, "parcel", "p1", at=4)
    (dropped,) = [step for step in history.steps if step.dropped]
    assert (dropped.type, dropped.version, dropped.position) == ("ParcelLookedAt", 4, 9)
    assert (dropped.data, dropped.changes) == (None, ())
    assert (history.version, history.state, history.stopped) == (4, before.state, None)
    assert history.later == 1


async def test_the_audit_index_has_each_event_once_and_as_it_was_written(
    store: EventStore, tmp_path: Path
) -> None:
    async with Database(tmp_path / "index.sqlite") as database:
        await database.migrate()
        worker = ProjectionWorker(store, database, [audit])
        async with asyncio.timeout(20), running(worker):
            await worker.wait(LAST, timeout=20)
        async with database.engine.connect() as connection:
            query = select(audit_event.c.position, audit_event.c.type).order_by("position")
            found = [tuple(row) for row in await connection.execute(query)]
    assert found == [
        (position, line.headers[Header.EVENT_TYPE]) for position, line in enumerate(kept_log(), 1)
    ]


async def test_an_export_has_what_was_written(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    await export_log(client, subjects, path)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        text = lines.read()
    for line in kept_log():
        assert line.headers[Header.CHAIN] in text


# The feed and its subscribers


class EventRecorder:
    """A handler that notes what it is called with, publishes facts, and fails on demand."""

    def __init__(self, publisher: EventPublisher | None = None) -> None:
        self.events: list[RecordedEvent] = []
        self.fail_at: int | None = None
        self._publisher = publisher
        self._more = asyncio.Event()

    async def __call__(self, _event: Event, recorded: RecordedEvent) -> None:
        self.events.append(recorded)
        self._more.set()
        if self._publisher is not None:
            await self._publisher.publish(ItemAdded(name="copy"), "copies")
        if len(self.events) == self.fail_at:
            raise RuntimeError("once")

    async def until(self, count: int) -> list[RecordedEvent]:
        async with asyncio.timeout(20):
            while len(self.events) < count:
                self._more.clear()
                await self._more.wait()
        return self.events


async def feed(client: Client, store: EventStore, position: int, batch: int = 1000) -> None:
    async with asyncio.timeout(30), running(Feed(client, store, batch=batch)):
        await until_fed(client, store.codec, position)


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_the_feed_publishes_the_events_of_today(
    client: Client, store: EventStore, batch: int
) -> None:
    await feed(client, store, 10, batch=batch)
    messages = await public(client, store.codec)
    assert [position_of(each.headers) for each in messages] == [each[1] for each in MEANT]
    for message, (_, _, _, part, data) in zip(messages, MEANT, strict=True):
        assert message.subject == subjects.event("parcel", type(data).__action__)
        assert message.headers[Header.EVENT_TYPE] == type(data).__name__
        assert message.headers[Header.SCHEMA_VERSION] == str(type(data).__schema_version__)
        assert message.headers.get(PART) == (str(part) if part else None)
        assert (PART_OF in message.headers) == (part > 0)
        assert Header.CHAIN not in message.headers
        assert msgspec.json.decode(message.payload, type=type(data)) == data
    ids = [each.headers[Header.MESSAGE_ID] for each in messages]
    assert len(set(ids)) == len(ids)


async def test_parts_are_published_together_or_not_at_all(
    client: Client, store: EventStore
) -> None:
    await feed(client, store, 10, batch=1)
    batches = [each.headers.get("Nats-Batch-Id") for each in await public(client, store.codec)]
    assert len(set(batches[2:6])) == 1
    assert batches[2] is not None
    assert batches[:2] == [None, None]


class ParcelPacked(Event, subject="parcel.packed"):
    items: list[str]
    closed: bool


async def pack(client: Client, *sizes: int) -> int:
    """Record parcels packed by version 1, with so many items; the position of the last."""
    events = [ParcelPacked(items=["cup"] * size, closed=False) for size in sizes]
    async with EventStore(client, Codec("depot", [], [ParcelPacked])) as store:
        return (await store.append("parcel", "p9", events)).position


async def test_a_batch_of_the_feed_ends_if_an_event_ends(client: Client, store: EventStore) -> None:
    position = await pack(client, *[3, 1, 0, 5, 2] * 12)
    await feed(client, store, position, batch=40)
    log = [(event.position, event.part) async for event in store.read_all()]
    found = defaultdict(list)
    messages = await public(client, store.codec)
    for message in messages:
        found[message.headers.get("Nats-Batch-Id")].append(position_of(message.headers))
    assert [(position_of(each.headers), int(each.headers.get(PART, 0))) for each in messages] == log
    assert 30 < max(len(positions) for positions in found.values()) <= 40
    for one, other in itertools.combinations(found.values(), 2):
        assert set(one).isdisjoint(other)


async def test_more_parts_than_are_atomic_are_left_out_of_the_feed_and_named(
    client: Client, store: EventStore
) -> None:
    position = await pack(client, 1_001)
    feed = Feed(client, store)
    async with running(feed), asyncio.timeout(20):
        while feed.position < position:
            await client.flush()
    assert "1,001 events in one append" in store.findings.by_position("unpublished")[position]
    assert len(await public(client, store.codec)) == len(MEANT)


async def test_a_subscriber_is_handed_what_a_reader_of_the_log_is(
    client: Client, store: EventStore
) -> None:
    await feed(client, store, 10)
    received = EventRecorder()
    async with running(EventSubscriber(client, store.codec, "all").subscribe([], received)):
        assert seen(await received.until(len(MEANT))) == MEANT
    log = [event.id async for event in store.read_all()]
    assert [event.id for event in received.events] == log


async def publish_as_version_1(client: Client) -> None:
    """Feed the stored log as a program of version 1 did."""
    actions = {"Booked": "booked", "Moved": "moved", "Packed": "packed", "LookedAt": "looked_at"}
    for position, line in enumerate(kept_log(), 1):
        action = actions[line.headers[Header.EVENT_TYPE].removeprefix("Parcel")]
        await publish_acked(
            client,
            subjects.event("parcel", action),
            line.payload.encode(),
            {**line.headers, POSITION: str(position)},
        )


async def test_a_subscriber_takes_what_an_older_program_published(
    client: Client, store: EventStore
) -> None:
    await publish_as_version_1(client)
    received = EventRecorder()
    subscriber = EventSubscriber(client, store.codec, "all").subscribe([], received)
    async with running(subscriber):
        assert seen(await received.until(len(MEANT))) == MEANT
    assert subscriber.handled >= LAST - 1  # it may not have come to the last, which is dropped
    assert subscriber.parked == 0


async def test_a_subscriber_of_a_renamed_event_takes_what_was_published_under_its_action(
    client: Client, store: EventStore
) -> None:
    await publish_as_version_1(client)
    received = EventRecorder()
    subscriber = EventSubscriber(client, store.codec, "arrivals")
    async with running(subscriber.subscribe([ParcelArrived], received)):
        events = await received.until(3)
    assert [event.data for event in events] == [
        meant[-1] for meant in MEANT if isinstance(meant[-1], ParcelArrived)
    ]


async def test_parts_without_a_handler_are_passed_over(client: Client, store: EventStore) -> None:
    line = kept_log()[2]
    await publish_acked(
        client,
        subjects.event("parcel", "closed"),
        line.payload.encode(),
        {**line.headers, POSITION: "3"},
    )
    received = EventRecorder()
    subscriber = EventSubscriber(client, store.codec, "closings")
    async with running(subscriber.subscribe([ParcelClosed], received)):
        assert seen(await received.until(1)) == [MEANT[5]]
    assert (subscriber.handled, subscriber.parked) == (1, 0)


@pytest.mark.parametrize("published_by", ["version 1", "version 3"])
async def test_each_part_is_a_cause_of_its_own_and_the_failed_one_alone_is_retried(
    client: Client, store: EventStore, published_by: str
) -> None:
    if published_by == "version 1":
        await publish_as_version_1(client)
    else:
        await feed(client, store, 10)
    received = EventRecorder(EventPublisher(store))
    received.fail_at = 4  # the second part of position 3, after it has published
    subscriber = EventSubscriber(client, store.codec, "copier", backoff=0.001)
    async with running(subscriber.subscribe([], received)):
        await received.until(len(MEANT) + 1)
    handled = [(event.position, event.part) for event in received.events]
    assert handled[2:7] == [(3, 0), (3, 1), (3, 1), (3, 2), (3, 3)]
    copies = await read(store, "copies")
    assert len(copies) == len(MEANT)
    log = {event.id async for event in store.read_all()}
    assert {copy.causation_id for copy in copies} <= log


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({PART: "x"}, "X-Event-Part is 'x', not a number"),
        ({PART_OF: "x"}, "X-Event-ID is 'x', not a UUID"),
        ({Header.EVENT_ID: "x"}, "X-Event-ID is 'x', not a UUID"),
        ({Header.EVENT_TYPE: "", PERSONAL: "name=x"}, "X-Event-Type is '', not a type's name"),
    ],
)
async def test_a_part_that_does_not_fit_is_refused(
    client: Client, store: EventStore, changes: dict[str, str], problem: str
) -> None:
    await feed(client, store, 3)
    message = (await public(client, store.codec))[3]
    headers = {**message.headers, **changes}
    with pytest.raises(InvalidHeader, match=problem):
        read_publication(store.codec, message.subject, headers, message.payload)
