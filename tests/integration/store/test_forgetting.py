"""Forgetting: personal data are encrypted in the log, and unreadable without their key."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes, StateCache
from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.digest import digest_of, without_data
from eventstore.commands.state_cache import CachedState
from eventstore.config import Settings, StreamSettings
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import (
    ConnectionLost,
    ImportRefused,
    InvalidPayload,
    KeyMissing,
    SubjectForgotten,
    TransferError,
    UnknownType,
    UnreadableEvent,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import PERSONAL, DataKey, DestroyedKey
from eventstore.messages.envelope import Identity, new_id
from eventstore.messages.events import NewEvent, RecordedEvent
from eventstore.messages.headers import Header
from eventstore.messages.personal import Personal, ref_of
from eventstore.messages.types import Event
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.append import ANY, NO_STREAM, Expected
from eventstore.store.head import NOTHING
from eventstore.store.key_bucket import KeyBucket, KeyEntry
from eventstore.store.keyring import Keyring
from eventstore.store.reader import EventReader
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.subscribers.subscriber import EventSubscriber
from eventstore.transfer import CopiedEvent, copy, export_log, import_log
from tests.conftest import StartServer, settings_for
from tests.connection import SOON
from tests.integration.customers import (
    NOWHERE,
    Address,
    CustomerGreeted,
    CustomerRegistered,
    CustomerSeen,
    Greet,
    OrderPlaced,
    Register,
    shop,
)
from tests.integration.feeding import declare_feed, public, until_fed
from tests.proxy import TcpProxy

HOME = Address("Elm Street 1", "Bath")
ANN = CustomerRegistered(email="ann@example.org", phone="555-0123", age=41, newsletter=True)
NOBODY = CustomerRegistered(email="[forgotten]", phone=None, age=-1, newsletter=True)
SECRETS = (b"ann@example.org", b"555-0123", b":41", b"Elm Street")


@pytest.fixture
def domain(domain_name: str) -> Domain:
    return shop.renamed(domain_name)


@pytest.fixture
async def client(settings: Settings, domain: Domain) -> AsyncIterator[Client]:
    subjects = domain.codec.subjects
    async with connect(settings) as client:
        await declare_some(client, domain, subjects.log_stream, f"KV_{subjects.key_bucket}")
        yield client


async def declare_some(client: Client, domain: Domain, *names: str) -> None:
    """Only the needed streams: declaring all would slow down each test."""
    specs = topology(domain.codec.subjects, StreamSettings())
    await declare(client, [spec for spec in specs if spec.name in names])


@pytest.fixture
async def store(client: Client, domain: Domain) -> AsyncIterator[EventStore]:
    async with EventStore(client, domain.codec) as store:
        yield store


@pytest.fixture
async def other(settings: Settings, client: Client, domain: Domain) -> AsyncIterator[EventStore]:
    """The store of another process, which has no keys yet."""
    async with connect(settings) as client, EventStore(client, domain.codec) as store:
        yield store


async def record(store: EventStore) -> int:
    """Ann registers, orders, and is seen; so does ben. The position of the last event."""
    await store.append("customer", "ann", ANN)
    await store.append("customer", "ben", [CustomerRegistered(email="ben@example.org")])
    await store.append("order", "o1", OrderPlaced(customer_id="ann", address=HOME))
    return (await store.append("customer", "ann", CustomerSeen())).position


async def read(store: EventStore, aggregate_id: str, aggregate: str = "customer") -> list[Event]:
    return [event.data async for event in store.read(aggregate, aggregate_id)]


async def read_all(store: EventStore) -> list[RecordedEvent]:
    return [event async for event in store.read_all()]


async def stored(client: Client, stream: str, subject: str) -> list[StoredMessage]:
    reader = DirectReader(client, stream)
    return [message async for message in reader.messages(subject)]


# Sealed in the log, open to readers


async def test_personal_data_round_trip(store: EventStore, other: EventStore) -> None:
    await record(store)
    for reader in (store, other):
        assert await read(reader, "ann") == [ANN, CustomerSeen()]
        assert await read(reader, "o1", "order") == [OrderPlaced(customer_id="ann", address=HOME)]
        assert [event.data for event in await read_all(reader)] == [
            ANN,
            CustomerRegistered(email="ben@example.org"),
            OrderPlaced(customer_id="ann", address=HOME),
            CustomerSeen(),
        ]


async def test_the_log_contains_no_unencrypted_personal_data(
    store: EventStore, client: Client
) -> None:
    await record(store)
    for message in await stored(client, store.codec.subjects.log_stream, ">"):
        whole = message.payload + repr(message.headers).encode()
        assert not any(secret in message.payload for secret in SECRETS), whole
    registered, _, placed, seen = await stored(client, store.codec.subjects.log_stream, ">")
    data = msgspec.json.decode(registered.payload)
    assert data["newsletter"] is True
    assert data["email"]["$personal"].keys() == {"v", "key", "nonce", "data", "forgotten"}
    assert msgspec.json.decode(placed.payload)["customer_id"] == "ann"
    assert registered.headers[PERSONAL].count(ref_of("ann")) == 3
    assert PERSONAL not in seen.headers


async def test_a_value_that_is_its_forgotten_form_needs_no_key(
    store: EventStore, client: Client
) -> None:
    await store.append("customer", "cy", CustomerRegistered(email="[forgotten]"))
    assert await read(store, "cy") == [CustomerRegistered(email="[forgotten]")]
    assert await KeyBucket(client, store.codec.subjects).find(ref_of("cy")) is None


async def test_a_repeat_is_recognised_though_it_is_re_encrypted(store: EventStore) -> None:
    new = NewEvent(data=ANN, identity=Identity.root())
    first = await store.append("customer", "ann", new)
    again = await store.append("customer", "ann", new)
    assert (again.duplicate, again.head) == (True, first.head)


async def test_a_refused_append_creates_no_key(store: EventStore, client: Client) -> None:
    wrong = CustomerRegistered(email=7)  # type: ignore[arg-type]
    with pytest.raises(InvalidPayload):
        await store.append("customer", "cy", [ANN, wrong])
    with pytest.raises(InvalidPayload, match="customer_id names no data subject"):
        await store.append("order", "o9", OrderPlaced(customer_id="", address=HOME))
    assert await KeyBucket(client, store.codec.subjects).find(ref_of("cy")) is None


async def test_data_that_looks_encrypted_remains_data(store: EventStore) -> None:
    forged = {"$personal": {"v": 1, "key": ref_of("ann"), "nonce": "", "data": "", "forgotten": 1}}
    event = OrderPlaced(customer_id="ann", address=HOME, note=forged)
    await store.append("order", "o1", event)
    assert await read(store, "o1", "order") == [event]


# Forgetting


async def test_a_forgotten_subject_is_forgotten_everywhere(
    store: EventStore, other: EventStore
) -> None:
    await record(store)
    assert await read(other, "ann") == [ANN, CustomerSeen()]
    forgotten = await store.keyring.forget("ann")
    assert forgotten is not None
    for reader in (store, other):
        assert await read(reader, "ann") == [NOBODY, CustomerSeen()]
        assert await read(reader, "o1", "order") == [
            OrderPlaced(customer_id="ann", address=NOWHERE)
        ]
        assert await read(reader, "ben") == [CustomerRegistered(email="ben@example.org")]
        assert (await read_all(reader))[0].data == NOBODY


async def test_a_closed_store_has_no_keys_and_no_subscription(
    client: Client, domain: Domain, other: EventStore
) -> None:
    before = set(client.nats._subs)
    called: list[str] = []
    async with EventStore(client, domain.codec) as store:
        store.keyring.on_forgotten(lambda: called.append("forgotten"))
        await record(store)
        assert store.keyring._cache
        assert set(client.nats._subs) > before
    assert not store.keyring._cache
    assert set(client.nats._subs) == before
    await other.keyring.forget("ann")
    await client.flush()
    assert called == []


async def test_the_events_stay_and_their_chains_hold(store: EventStore, client: Client) -> None:
    await record(store)
    stream = store.codec.subjects.log_stream
    before = await stored(client, stream, ">")
    await store.keyring.forget("ann")
    assert await stored(client, stream, ">") == before
    chain: dict[str, str] = {}
    for message in before:
        chain[message.subject] = chain_value(
            chain.get(message.subject, GENESIS), message.subject, message.headers, message.payload
        )
        assert chain[message.subject] == message.headers[Header.CHAIN]


async def test_forgetting_is_idempotent_and_unknown_subjects_have_no_key(store: EventStore) -> None:
    await record(store)
    first = await store.keyring.forget("ann")
    assert await store.keyring.forget("ann") == first
    assert await store.keyring.forget("zoe") is None
    assert await read(store, "ann") == [NOBODY, CustomerSeen()]


def files_with(directory: Path, secret: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and secret in path.read_bytes()]


async def wrapped_key_of(client: Client, subject: str) -> bytes:
    """The wrapped key of a subject of the shop, as it is written."""
    bucket = shop.codec.subjects.key_bucket
    reader = DirectReader(client, f"KV_{bucket}")
    stored = await reader.leader_last(f"$KV.{bucket}.{ref_of(subject)}")
    assert stored is not None
    wrapped = KeyEntry.read(stored.payload).wrapped
    assert wrapped is not None
    return base64.b64encode(wrapped)


async def key_of(client: Client, domain: Domain, subject: str) -> DataKey:
    key = await KeyBucket(client, domain.codec.subjects).find(ref_of(subject))
    assert isinstance(key, DataKey)
    return key


async def test_the_key_is_gone_from_the_servers_files(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = await start_server(data_directory=tmp_path / "data")
    async with (
        connect(settings := settings_for(server.url, "shop")) as client,
        EventStore(client, shop.codec) as store,
    ):
        await declare(client, topology(shop.codec.subjects, settings.streams))
        await record(store)
        written = {name: await wrapped_key_of(client, name) for name in ("ann", "ben")}
        assert files_with(tmp_path, written["ann"])
        await store.keyring.forget("ann")
        assert files_with(tmp_path, written["ann"]) == []
        assert files_with(tmp_path, written["ben"])
    await server.stop()
    assert files_with(tmp_path, written["ann"]) == []


async def test_forgetting_that_was_cut_off_is_brought_to_its_end(
    store: EventStore, client: Client, domain: Domain
) -> None:
    await record(store)
    bucket, subject = (
        f"KV_{domain.codec.subjects.key_bucket}",
        f"$KV.{domain.codec.subjects.key_bucket}.{ref_of('ann')}",
    )
    first = await client.api(f"STREAM.MSG.GET.{bucket}", {"last_by_subj": subject})
    sequence = first["message"]["seq"]
    tombstone = {"v": 1, "forgotten": "2026-01-01T00:00:00.000000Z", "sequence": sequence}
    await publish_acked(client, subject, msgspec.json.encode(tombstone))  # and then it died
    assert await read(store, "ann") == [NOBODY, CustomerSeen()]
    assert base64.b64decode(first["message"]["data"]) in await messages_in(client, bucket)
    assert await store.keyring.forget("ann") == DestroyedKey("2026-01-01T00:00:00.000000Z")
    left = await messages_in(client, bucket)
    assert base64.b64decode(first["message"]["data"]) not in left
    assert len(left) == 2  # the tombstone, and ben's key


async def messages_in(client: Client, stream: str) -> list[bytes]:
    info = await client.api(f"STREAM.INFO.{stream}")
    found = []
    after = 0
    while after < info["state"]["last_seq"]:
        answer = await client.api(
            f"STREAM.MSG.GET.{stream}", {"seq": after + 1, "next_by_subj": ">"}
        )
        found.append(base64.b64decode(answer["message"]["data"]))
        after = answer["message"]["seq"]
    return found


async def test_no_personal_data_of_a_forgotten_subject_are_recorded(
    store: EventStore, other: EventStore
) -> None:
    await record(store)
    await store.keyring.forget("ann")
    for writer in (store, other):
        with pytest.raises(
            SubjectForgotten, match=r"ann was forgotten at .* use a new id"
        ) as error:
            await writer.append("customer", "ann", ANN)
        assert (error.value.subject, error.value.code) == ("ann", "subject_forgotten")
        await writer.append("customer", "ann", [CustomerSeen(), NOBODY])
    assert (await read(store, "ann"))[2:] == [CustomerSeen(), NOBODY, CustomerSeen(), NOBODY]


@pytest.mark.parametrize("expected", [ANY, NO_STREAM, 1])
async def test_a_repeat_of_an_append_before_forgetting_has_the_same_answer(
    store: EventStore, expected: Expected
) -> None:
    own = NewEvent(data=ANN, identity=Identity.root())
    first = await store.append("customer", "ann", own)
    await store.append("customer", "ann", CustomerSeen())
    await store.keyring.forget("ann")
    again = await store.append("customer", "ann", own, expected=expected)
    assert (again.duplicate, again.head, again.positions) == (True, first.head, first.positions)
    for new in (NewEvent(data=ANN, identity=Identity.root()), ANN):
        with pytest.raises(SubjectForgotten):
            await store.append("customer", "ann", new, expected=expected)


# Keys


async def test_concurrent_writers_create_one_key(
    client: Client, domain: Domain, settings: Settings
) -> None:
    rings = [Keyring(client, domain.codec.subjects) for _ in range(8)]
    found = await asyncio.gather(*(ring.to_seal(["ann", "ben"]) for ring in rings * 3))
    assert all(keys == found[0] for keys in found)
    assert len({key.secret for key in found[0].values() if isinstance(key, DataKey)}) == 2
    for ring in rings:
        await ring.close()


async def test_concurrent_creation_and_destruction_converge(client: Client, domain: Domain) -> None:
    bucket = KeyBucket(client, domain.codec.subjects)
    for number in range(10):
        ref = ref_of(f"s{number}")
        await bucket.find_or_create(ref)
        destroyed = await asyncio.gather(
            *(bucket.destroy(ref, f"2026-01-01T00:00:0{each}.000000Z") for each in range(4))
        )
        assert len(set(map(str, destroyed))) == 1
        assert await bucket.find(ref) == destroyed[0] == await bucket.find_or_create(ref)


async def test_another_process_is_notified_immediately(
    store: EventStore, other: EventStore
) -> None:
    await record(store)
    await read(other, "ann")
    heard = asyncio.Event()
    other.keyring.on_forgotten(heard.set)
    await store.keyring.forget("ann")
    async with asyncio.timeout(SOON):
        await heard.wait()
    assert isinstance((await other.keyring.to_seal(["ann"]))[ref_of("ann")], DestroyedKey)


async def test_a_missed_tombstone_is_found_when_the_key_expires(
    client: Client, domain: Domain, store: EventStore
) -> None:
    await record(store)
    deaf = Keyring(client, domain.codec.subjects, lifetime=0.0)
    assert isinstance((await deaf.to_seal(["ann"]))[ref_of("ann")], DataKey)
    await deaf.close()  # it hears nothing more
    await store.keyring.forget("ann")
    assert isinstance((await deaf.to_seal(["ann"]))[ref_of("ann")], DestroyedKey)


KEY_ASKED_FOR = b"STREAM.MSG.GET.KV_"


@asynccontextmanager
async def behind(proxy: TcpProxy, domain: Domain) -> AsyncIterator[Client]:
    async with connect(settings_for(proxy.url, domain.name)) as client:
        yield client


@pytest.mark.parametrize("live", [True, False])
async def test_a_reader_waits_for_keys_as_it_does_for_events(
    store: EventStore, nats_server: EmbeddedServer, domain: Domain, live: bool
) -> None:
    await record(store)
    async with TcpProxy(nats_server) as proxy, behind(proxy, domain) as client:
        cut = proxy.cut_after(KEY_ASKED_FOR, "to_server", forward=False)
        reading = EventReader(client, domain.codec).pages(live=live)
        async with aclosing(reading) as pages, asyncio.timeout(10):
            page = await anext(pages)
        assert cut.is_set()
        assert (page.events[0].data, page.pending) == (ANN, 0)


async def test_a_reader_that_is_not_live_waits_for_keys_no_longer_than_its_patience(
    store: EventStore, nats_server: EmbeddedServer, domain: Domain
) -> None:
    await record(store)
    async with TcpProxy(nats_server) as proxy, behind(proxy, domain) as client:
        proxy.cut_after(KEY_ASKED_FOR, "to_server", forward=False)
        reading = EventReader(client, domain.codec, retry_timeout=0.2).pages()
        async with aclosing(reading) as pages, asyncio.timeout(10):
            with proxy.refusing(), pytest.raises(ConnectionLost):
                await anext(pages)


async def test_keys_are_bounded(client: Client, domain: Domain) -> None:
    ring = Keyring(client, domain.codec.subjects, limit=3)
    await ring.to_seal([f"s{number}" for number in range(10)])
    assert len(ring._cache) == 3
    await ring.close()


async def test_a_key_shows_in_no_text() -> None:
    assert repr(DataKey(b"secret")) == "Key(...)"


# What is not forgotten, but broken


async def tampered(store: EventStore, client: Client, change: Any) -> None:
    """Put ann's registration into an aggregate of its own, with something changed, and chained."""
    message = (await stored(client, store.codec.subjects.log_stream, ">"))[0]
    headers, data = dict(message.headers), msgspec.json.decode(message.payload)
    headers[Header.AGGREGATE_ID] = "eve"
    change(headers, data)
    headers[Header.MESSAGE_ID] = headers[Header.EVENT_ID]
    subject = store.codec.subjects.log("customer", "eve")
    for name in [name for name in headers if name.startswith("Nats-Expected")]:
        del headers[name]
    del headers[Header.MESSAGE_ID]
    payload = msgspec.json.encode(data)
    headers[Header.CHAIN] = chain_value(GENESIS, subject, headers, payload)
    await publish_acked(client, subject, payload, headers)


def flip(headers: dict[str, str], data: Any) -> None:
    sealed = data["email"]["$personal"]
    sealed["data"] = base64.b64encode(bytes(len(base64.b64decode(sealed["data"])))).decode()


def swap(headers: dict[str, str], data: Any) -> None:
    data["email"], data["phone"] = data["phone"], data["email"]


def move(headers: dict[str, str], data: Any) -> None:
    headers[Header.EVENT_ID] = headers[Header.CORRELATION_ID] = headers[Header.CAUSATION_ID] = (
        new_id()
    )


def reform(headers: dict[str, str], data: Any) -> None:
    data["email"]["$personal"]["forgotten"] = "eve@example.org"


def redirect(headers: dict[str, str], data: Any) -> None:
    headers[PERSONAL] = headers[PERSONAL].replace(ref_of("ann"), ref_of("ben"))


def unseal(headers: dict[str, str], data: Any) -> None:
    data["email"] = "eve@example.org"


def strip(headers: dict[str, str], data: Any) -> None:
    del headers[PERSONAL]


def future(headers: dict[str, str], data: Any) -> None:
    data["email"]["$personal"]["v"] = 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            flip,
            "personal data in email cannot be decrypted with their key: they were changed after",
        ),
        (swap, "cannot be decrypted with their key"),
        (move, "cannot be decrypted with their key: .* belong to another event"),
        (reform, "cannot be decrypted with their key"),
        (redirect, "and the header X-Personal name different keys"),
        (unseal, "are not encrypted as they should be"),
        (strip, "Expected `str`, got `object`"),
        (future, "encrypted in version 2 by a newer program"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_tampered_data_are_unreadable_and_not_forgotten(
    store: EventStore, client: Client, change: Any, problem: str
) -> None:
    position = await record(store)
    await tampered(store, client, change)
    with pytest.raises(UnreadableEvent, match=problem) as failure:
        await read(store, "eve")
    assert failure.value.position == position + 1
    with pytest.raises(UnreadableEvent, match=problem):
        await anext(store.pages(after=position))
    if change is future:  # which is not passed over, for it is sound
        with pytest.raises(UnreadableEvent, match=problem):
            await read_all(store)
    else:
        assert position + 1 not in {event.position for event in await read_all(store)}


async def test_a_key_that_is_lost_is_an_error_and_not_forgetting(
    store: EventStore, other: EventStore, client: Client, domain: Domain
) -> None:
    await record(store)
    await client.api(f"STREAM.PURGE.KV_{domain.codec.subjects.key_bucket}")
    with pytest.raises(UnreadableEvent, match="is missing, though not forgotten") as failure:
        await read(other, "ann")
    assert isinstance(failure.value.cause, KeyMissing)


async def test_a_key_that_another_tool_deleted_is_an_error_for_writers_too(
    other: EventStore, store: EventStore, client: Client, domain: Domain
) -> None:
    await record(store)
    bucket = domain.codec.subjects.key_bucket
    await publish_acked(client, f"$KV.{bucket}.{ref_of('ann')}", b"", {"KV-Operation": "DEL"})
    with pytest.raises(UnreadableEvent, match="is missing"):
        await read(other, "ann")
    with pytest.raises(KeyMissing, match="deleted by another tool"):
        await other.append("customer", "ann", ANN)


# Commands


@asynccontextmanager
async def commanding(
    client: Client, domain: Domain, store: EventStore, states: StateCache | None = None
) -> AsyncIterator[CommandClient]:
    subjects = domain.codec.subjects
    needed = subjects.command_stream, subjects.parked_stream, f"KV_{subjects.outcome_bucket}"
    await declare_some(client, domain, *needed)
    handler = CommandHandler(store, domain, Outcomes(client, domain.codec.subjects), states=states)
    async with (
        CommandClient(client, domain.codec) as commands,
        running(CommandWorker(client, domain.codec, handler)),
    ):
        yield commands


async def test_no_digest_of_personal_data_is_stored_permanently(
    client: Client, domain: Domain, store: EventStore
) -> None:
    own = new_id()
    async with commanding(client, domain, store) as commands:
        await commands.execute(Register(email="ann@example.org"), "ann", command_id=own)
        other = await commands.execute(Register(email="eve@example.org"), "ann", command_id=own)
    assert other.code == "command_id_reused"  # as long as the outcome is kept
    (event,) = [event async for event in store.read("customer", "ann")]
    full = digest_of(Register(email="ann@example.org"), "ann", own)
    assert event.envelope.command_digest == without_data(full)


async def test_a_worker_decides_on_forgotten_data_cached_or_loaded(
    client: Client, domain: Domain, store: EventStore, other: EventStore
) -> None:
    states = StateCache()
    async with commanding(client, domain, store, states) as commands:
        await commands.execute(Register(email="ann@example.org"), "ann")
        await commands.execute(Greet(), "ann")
        assert len(states) == 1
        heard = asyncio.Event()
        store.keyring.on_forgotten(heard.set)
        await other.keyring.forget("ann")
        async with asyncio.timeout(SOON):
            await heard.wait()
        assert len(states) == 0
        assert (await commands.execute(Greet(), "ann")).status == "success"
    async with commanding(client, domain, other) as commands:
        assert (await commands.execute(Greet(), "ann")).status == "success"
    greetings = [event for event in await read(store, "ann") if isinstance(event, CustomerGreeted)]
    assert greetings == [CustomerGreeted(words="[forgotten]")] * 3


async def test_a_refusal_on_a_stale_state_is_confirmed_first(
    client: Client, domain: Domain, store: EventStore, other: EventStore
) -> None:
    states = StateCache()
    await record(other)
    async with commanding(client, domain, store, states) as commands:
        await commands.execute(Greet(words="[forgotten]"), "ann")
        kept = states.get(("customer", "ann"))
        assert kept is not None
        await other.append("customer", "ann", CustomerSeen())
        await other.keyring.forget("ann")
        states.put(("customer", "ann"), msgspec.structs.replace(kept, era=states.era))
        outcome = await commands.execute(Greet(words="dear ann"), "ann")
    assert (outcome.status, outcome.code) == ("rejected", "subject_forgotten")
    assert outcome.version == (await other.head("customer", "ann")).version == kept.head.version + 1


async def test_a_command_about_a_forgotten_subject_is_rejected_with_the_reason(
    client: Client, domain: Domain, store: EventStore
) -> None:
    async with commanding(client, domain, store) as commands:
        await commands.execute(Register(email="ann@example.org"), "ann")
        await store.keyring.forget("ann")
        outcome = await commands.execute(Greet(words="dear ann"), "ann")
    assert (outcome.status, outcome.code, outcome.version) == ("rejected", "subject_forgotten", 1)
    assert outcome.message.startswith("ann was forgotten at ")


def test_a_state_loaded_before_the_clearing_is_not_cached() -> None:
    states = StateCache()
    kept = CachedState("plain", NOTHING, CommandDeduplication(), states.era)
    states.clear()
    states.put(("customer", "ann"), kept)
    assert (len(states), states.size) == (0, 0)


# Read models

rows = Table(
    "customer_email",
    MetaData(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("email", String(100)),
)


def emails() -> Projection:
    projection = Projection("emails", tables=[rows])

    @projection.handles
    def registered(event: CustomerRegistered, recorded: RecordedEvent) -> Statement:
        return insert(rows).values(position=recorded.position, email=event.email)

    return projection


async def projected(store: EventStore, file: Path, position: int) -> list[str]:
    async with Database(file) as database:
        await database.migrate()
        await database.transact(rows.metadata.create_all)
        worker = ProjectionWorker(store, database, [emails()])
        async with asyncio.timeout(20), running(worker):
            await worker.wait(position, timeout=20)
        async with database.engine.connect() as connection:
            return list(await connection.scalars(select(rows.c.email).order_by(rows.c.position)))


async def test_a_rebuilt_read_model_has_no_forgotten_data(
    store: EventStore, tmp_path: Path
) -> None:
    position = await record(store)
    old = tmp_path / "old.sqlite"
    assert await projected(store, old, position) == ["ann@example.org", "ben@example.org"]
    await store.keyring.forget("ann")
    assert await projected(store, old, position) == ["ann@example.org", "ben@example.org"]
    assert await projected(store, tmp_path / "new.sqlite", position) == [
        "[forgotten]",
        "ben@example.org",
    ]


# The feed


class EventRecorder:
    def __init__(self) -> None:
        self.events: list[tuple[Event, int]] = []
        self._more = asyncio.Event()

    async def __call__(self, event: Event, recorded: RecordedEvent) -> None:
        self.events.append((event, recorded.part))
        self._more.set()

    async def until(self, count: int) -> list[Event]:
        async with asyncio.timeout(20):
            while len(self.events) < count:
                self._more.clear()
                await self._more.wait()
        return [event for event, _ in self.events]


async def received(client: Client, store: EventStore, name: str, count: int) -> list[Event]:
    """What a new subscriber is handed."""
    handler = EventRecorder()
    async with running(EventSubscriber(client, store.codec, name).subscribe([], handler)):
        return await handler.until(count)


async def feed(client: Client, store: EventStore, position: int) -> None:
    await declare_feed(client, store.codec)
    async with asyncio.timeout(30), running(Feed(client, store)):
        await until_fed(client, store.codec, position)


async def test_the_feed_publishes_encrypted_events(client: Client, store: EventStore) -> None:
    await feed(client, store, await record(store))
    messages = await public(client, store.codec)
    log = await stored(client, store.codec.subjects.log_stream, ">")
    assert [each.payload for each in messages] == [each.payload for each in log]
    assert (await received(client, store, "before", 4))[0] == ANN
    await store.keyring.forget("ann")
    assert await received(client, store, "after", 4) == [
        NOBODY,
        CustomerRegistered(email="ben@example.org"),
        OrderPlaced(customer_id="ann", address=NOWHERE),
        CustomerSeen(),
    ]


async def test_at_most_once_delivery_waits_for_unavailable_keys(
    client: Client, store: EventStore, nats_server: EmbeddedServer, domain: Domain
) -> None:
    await feed(client, store, (await store.append("customer", "ann", ANN)).position)
    handler = EventRecorder()
    async with TcpProxy(nats_server) as proxy, behind(proxy, domain) as cut:
        fired = proxy.cut_after(KEY_ASKED_FOR, "to_server", forward=False)
        subscriber = EventSubscriber(cut, domain.codec, "s", acknowledge="before", ack_wait=0.5)
        async with running(subscriber.subscribe([], handler)), asyncio.timeout(10):
            assert await handler.until(1) == [ANN]
        assert fired.is_set()


# Older schemas


async def record_older(client: Client, domain: Domain) -> int:
    """What version 1 recorded: mail was personal, CustomerMet was one event, words was not."""

    class CustomerRegistered(Event, subject="customer.registered"):
        mail: Annotated[str, Personal()]

    class CustomerMet(Event, subject="customer.met"):
        mail: Annotated[str, Personal()]

    codec = Codec(domain.name, [], [CustomerRegistered, CustomerMet])
    async with EventStore(client, codec) as store:
        await store.append("customer", "ann", CustomerRegistered(mail="ann@example.org"))
        return (await store.append("customer", "ben", CustomerMet(mail="ben@example.org"))).position


MEANT = [
    CustomerRegistered(email="ann@example.org"),
    CustomerRegistered(email="ben@example.org"),
    CustomerGreeted(words="hello ben@example.org"),
]
LEFT = [
    CustomerRegistered(email="[forgotten]"),
    CustomerRegistered(email="[forgotten]"),
    CustomerGreeted(words="hello [forgotten]"),
]


async def test_upcasters_get_decrypted_or_forgotten_data(
    client: Client, domain: Domain, store: EventStore
) -> None:
    await record_older(client, domain)
    assert [event.data for event in await read_all(store)] == MEANT
    for subject in ("ann", "ben"):
        await store.keyring.forget(subject)
    assert [event.data for event in await read_all(store)] == LEFT


async def test_the_feed_re_encrypts_events_of_older_schemas(
    client: Client, domain: Domain, store: EventStore
) -> None:
    await feed(client, store, await record_older(client, domain))
    messages = await public(client, store.codec)
    assert not any(b"example.org" in each.payload for each in messages)
    assert all(PERSONAL in each.headers for each in messages)
    assert await received(client, store, "before", 3) == MEANT
    for subject in ("ann", "ben"):
        await store.keyring.forget(subject)
    # What was made of it before, and sealed, reads as the forgotten form of what it was made.
    assert await received(client, store, "after", 3) == [
        *LEFT[:2],
        CustomerGreeted(words="[forgotten]"),
    ]


async def test_the_feed_publishes_the_forgotten_form(
    client: Client, domain: Domain, store: EventStore
) -> None:
    position = await record_older(client, domain)
    for subject in ("ann", "ben"):
        await store.keyring.forget(subject)
    await feed(client, store, position)
    messages = await public(client, store.codec)
    assert not any(PERSONAL in each.headers for each in messages)
    assert (await received(client, store, "after", 3))[2] == CustomerGreeted(words="[forgotten]")


async def test_events_of_a_type_that_is_unknown_can_still_be_skipped(
    client: Client, domain: Domain
) -> None:
    await record_older(client, domain)
    codec = Codec(domain.name, [], [CustomerSeen])
    async with EventStore(client, codec) as store:
        assert [event async for event in store.read_all(skip_unknown=True)] == []
        with pytest.raises(UnreadableEvent) as failure:
            await read_all(store)
        assert isinstance(failure.value.cause, UnknownType)


async def test_no_snapshot_is_taken_of_personal_data(client: Client, store: EventStore) -> None:
    kinds = [Decider(kind, initial=int, snapshot_every=1) for kind in ("customer", "greeting")]
    async with Snapshots(client, store) as snapshots:
        assert [snapshots.is_enabled_for(each) for each in kinds] == [False, True]


async def test_a_log_is_imported_only_with_its_keys(
    client: Client, store: EventStore, domain: Domain, tmp_path: Path, start_server: StartServer
) -> None:
    await record(store)
    subjects, path = domain.codec.subjects, tmp_path / "log.gz"
    await export_log(client, subjects, path)
    server = await start_server()
    async with connect(settings_for(server.url, domain.name)) as elsewhere:
        with pytest.raises(ImportRefused, match="personal data of 2 subjects whose keys are not"):
            await import_log(elsewhere, subjects, StreamSettings(), path)
        moved = await import_log(elsewhere, subjects, StreamSettings(), path, without_keys=True)
    assert moved.events == 4


async def test_a_copy_does_not_contain_unreadable_events(
    client: Client, store: EventStore, domain: Domain, tmp_path: Path
) -> None:
    await record(store)
    path = tmp_path / "log.gz"
    await export_log(client, domain.codec.subjects, path)

    def masked(event: CopiedEvent) -> CopiedEvent:
        return event.replace(data={})

    def without_ann(event: CopiedEvent) -> CopiedEvent | None:
        return None if event.aggregate_id == "ann" else event

    with pytest.raises(TransferError, match=r"position 1 .* has personal data"):
        await copy(path, tmp_path / "masked.gz", masked, name="masked")
    copied = await copy(path, tmp_path / "copy.gz", without_ann, name="without_ann")
    assert copied.dropped == {"CustomerRegistered": 1, "CustomerSeen": 1}
