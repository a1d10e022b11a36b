"""The feed: every event of the log on its public subject, once, in order, with its headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from eventstore.application import running
from eventstore.client.client import Client, Msg, connect
from eventstore.config import Settings
from eventstore.errors import EventTooLarge, FeedLost, StreamMissing, UnreadableEvent
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import Draft, publish
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, new_id
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import POSITION, Header, position_of
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.types import Event
from eventstore.messages.upcasting import Upcaster
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.position import FeedPoint, FeedPosition
from eventstore.projections.feed.supervisor import FeedSupervisor
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.checks import check_findings
from eventstore.store.store import EventStore
from eventstore.subscribers.publication import read_publication
from tests.conftest import StartServer, settings_for
from tests.integration.feeding import (
    Watcher,
    assert_fed,
    declare_feed,
    deposit,
    last_sequence,
    public,
    purge,
    until_fed,
)
from tests.integration.ledger import Deposited, Noted, Opened, jetstream, ledger, read_all
from tests.proxy import TcpProxy

STANDARD = {
    value
    for name, value in vars(Header).items()
    if not name.startswith("_") and name not in ("ACTOR", "TRACEPARENT")
}


@pytest.fixture(autouse=True)
async def streams(client: Client, codec: Codec) -> None:
    await declare_feed(client, codec)


@pytest.fixture
def checkpoint(client: Client, codec: Codec) -> FeedPosition:
    return FeedPosition(client, codec.subjects)


async def feed_until(client: Client, store: EventStore, position: int) -> Feed:
    """Run a feed until it has published up to a position."""
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed):
        await until_fed(client, store.codec, position)
    return feed


@pytest.fixture
def foreign(codec: Codec) -> str:
    """A public subject on which somebody other than the feed publishes."""
    return codec.subjects.event("account", "opened")


async def test_a_first_start_publishes_the_whole_history_in_order(
    client: Client, store: EventStore
) -> None:
    await store.append("account", "a1", [Opened(), Deposited(amount=2)])
    await store.append("journal", "j1", Noted(text="x"))
    last = await deposit(store, 500)
    await feed_until(client, store, last)
    await assert_fed(client, store)
    subjects = [each.subject.partition(".")[2] for each in await public(client, store.codec)]
    assert subjects[:4] == [
        "event.account.opened",
        "event.account.deposited",
        "event.journal.noted",
        "event.account.deposited",
    ]


async def test_opaque_events_are_passed_over(client: Client, store: EventStore) -> None:
    picture = OpaqueEvent(type="picture", payload=b"\xff")
    last = await store.append("account", "a1", [Opened(), picture, Deposited(), picture, Opened()])
    await feed_until(client, store, last.position)
    positions = [position_of(each.headers) for each in await public(client, store.codec)]
    assert positions == [1, 3, 5]


async def test_an_event_is_published_with_all_standard_headers_and_its_position(
    client: Client, store: EventStore
) -> None:
    new = NewEvent(data=Opened(), actor="ann", identity=Identity.root())
    appended = await store.append("account", "a1", new)
    await feed_until(client, store, appended.position)
    (event,) = await read_all(store)
    (message,) = await public(client, store.codec)
    assert set(message.headers) >= STANDARD | {Header.ACTOR, POSITION}
    assert message.headers[POSITION] == str(appended.position)
    assert message.headers[Header.MESSAGE_ID] == appended.event_ids[0]
    assert message.payload == event.payload
    assert "Nats-Expected-Last-Subject-Sequence" not in message.headers
    (read,) = read_publication(store.codec, message.subject, message.headers, message.payload)
    assert (read.data, read.envelope, read.version) == (event.data, event.envelope, 1)
    assert (read.position, read.aggregate, read.aggregate_id) == (1, "account", "a1")


async def test_events_are_cloud_events_where_a_setting_says_so(
    client: Client, store: EventStore
) -> None:
    appended = await store.append("account", "a1", Opened())
    last = await deposit(store, 40)
    feed = Feed(client, store, cloudevents=True)
    async with asyncio.timeout(30), running(feed):
        await until_fed(client, store.codec, last)
    await assert_fed(client, store)
    first = (await public(client, store.codec))[0]
    own = first.headers
    assert {name: text for name, text in own.items() if name.startswith("ce-")} == {
        "ce-specversion": "1.0",
        "ce-id": appended.event_ids[0],
        "ce-source": f"/{store.codec.domain}",
        "ce-type": f"{store.codec.domain}.Opened",
        "ce-subject": "a1",
        "ce-time": own["X-Timestamp"],
        "ce-datacontenttype": "application/json",
        "ce-correlationid": own["X-Correlation-ID"],
        "ce-causationid": own["X-Causation-ID"],
    }
    (read,) = read_publication(store.codec, first.subject, own, first.payload)
    assert read.id == appended.event_ids[0]


async def test_an_event_too_large_as_a_cloud_event_is_published_without_attributes(
    start_server: StartServer, domain_name: str
) -> None:
    async with small_messages(start_server, domain_name) as (client, store):
        await largest(store)
        async with asyncio.timeout(30), running(Feed(client, store, cloudevents=True)):
            await until_fed(client, store.codec, 1)
        (message,) = await public(client, store.codec)
        assert "ce-id" not in message.headers


async def test_a_plain_client_receives_one_action_of_all_aggregates_by_a_wildcard(
    client: Client, store: EventStore, settings: Settings
) -> None:
    async with connect(settings) as other:
        plain = await other.nats.subscribe(f"{store.codec.domain}.event.*.opened")
        await other.nats.flush()
        await store.append("account", "a1", [Opened(), Deposited()])
        second = await store.append("account", "a2", Opened())
        await feed_until(client, store, second.position)
        received = [await plain.next_msg(timeout=5) for _ in range(2)]
    assert [(each.headers or {})[Header.AGGREGATE_ID] for each in received] == ["a1", "a2"]
    assert plain.pending_msgs == 0


async def test_events_are_published_as_they_are_appended(client: Client, store: EventStore) -> None:
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed), Watcher(client, store.codec) as watcher:
        await feed.ready.wait()
        for count in range(1, 6):
            await deposit(store, 1)
            await watcher.until(count)
    assert watcher.seen == [1, 2, 3, 4, 5]
    assert (feed.published, feed.position, feed.pending) == (5, 5, 0)


async def test_a_restart_goes_on_after_the_last_event_of_the_stream(
    client: Client, store: EventStore
) -> None:
    await feed_until(client, store, await deposit(store, 100))
    again = await feed_until(client, store, await deposit(store, 50))
    assert again.published == 50
    await assert_fed(client, store)


async def test_a_point_is_saved_so_that_an_emptied_stream_is_not_refilled(
    client: Client, store: EventStore
) -> None:
    await feed_until(client, store, await deposit(store, 40))
    await purge(client, store.codec)
    again = await feed_until(client, store, await deposit(store, 1))
    assert again.published == 1
    await assert_fed(client, store, after=40)


async def test_a_stream_emptied_under_a_running_feed_changes_nothing_for_it(
    client: Client, store: EventStore
) -> None:
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed):
        await until_fed(client, store.codec, await deposit(store, 40))
        await purge(client, store.codec)
        await until_fed(client, store.codec, await deposit(store, 40))
    assert feed.published == 80
    await assert_fed(client, store, after=40)


async def test_without_the_last_event_or_a_saved_point_nothing_is_published(
    client: Client, store: EventStore, checkpoint: FeedPosition
) -> None:
    await feed_until(client, store, await deposit(store, 40))
    await checkpoint.save(FeedPoint(39, 39))
    await purge(client, store.codec)
    await deposit(store, 1)
    with pytest.raises(FeedLost, match="sequence 39 at position 39") as refused:
        await Feed(client, store).run()
    assert '{"sequence": 40, "position": N}' in str(refused.value)
    assert await public(client, store.codec) == []
    await checkpoint.save(FeedPoint(40, 40))  # what the error says
    await feed_until(client, store, 41)
    await assert_fed(client, store, after=40)


async def test_a_recreated_stream_is_not_filled_with_what_was_published_before(
    client: Client, store: EventStore
) -> None:
    await feed_until(client, store, await deposit(store, 3))
    await client.api(f"STREAM.DELETE.{store.codec.subjects.event_stream}")
    await declare_feed(client, store.codec)
    with pytest.raises(FeedLost, match="ends at sequence 0"):
        await Feed(client, store).run()


async def test_a_deleted_key_counts_as_none(
    client: Client, store: EventStore, checkpoint: FeedPosition
) -> None:
    await checkpoint.save(FeedPoint(7, 7))
    buckets = await jetstream(client).key_value(store.codec.subjects.config_bucket)
    await buckets.delete("feed.position")
    assert await checkpoint.find() == FeedPoint(0, 0)


async def test_an_invalid_saved_point_is_refused(client: Client, store: EventStore) -> None:
    buckets = await jetstream(client).key_value(store.codec.subjects.config_bucket)
    await buckets.put("feed.position", b'{"sequence": "many"}')
    with pytest.raises(FeedLost, match="is invalid"):
        await Feed(client, store).run()


@pytest.mark.parametrize("content", [b"garbage", b'{"position": -1}', b'{"sequence": 1e400}'])
async def test_an_invalid_saved_point_is_ignored_if_the_stream_has_the_position(
    client: Client, store: EventStore, content: bytes
) -> None:
    await feed_until(client, store, await deposit(store, 2))
    buckets = await jetstream(client).key_value(store.codec.subjects.config_bucket)
    await buckets.put("feed.position", content)
    await feed_until(client, store, await deposit(store, 2))
    await assert_fed(client, store)


@dataclass
class Writes:
    """What is written to the event stream, how often a point is saved, and other messages."""

    events: int = 0
    places: int = 0
    others: int = 0


@pytest.fixture
async def writes(client: Client, codec: Codec) -> Writes:
    seen = Writes()

    async def event(_: Msg) -> None:
        seen.events += 1

    async def place(message: Msg) -> None:
        if message.subject.endswith(".feed.position"):
            seen.places += 1
        else:
            seen.others += 1

    await client.subscribe(codec.subjects.filter("event"), event)
    await client.subscribe(f"$KV.{codec.subjects.config_bucket}.>", place)
    await client.flush()
    return seen


async def rounds(client: Client, count: int = 50) -> None:
    """Let everything on this connection, and in the event loop, run for many turns."""
    for _ in range(count):
        await client.flush()


async def test_a_feed_that_has_nothing_to_publish_writes_nothing(
    client: Client, store: EventStore, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.projections.feed.feed._SAVE_INTERVAL", 0.0)
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed):
        await feed.ready.wait()
        for count in (1, 40):
            await until_fed(client, store.codec, await deposit(store, count))
            await rounds(client)
            before = replace(writes)
            await rounds(client)
            assert writes == before
        assert writes.events == feed.published == 41
    await rounds(client, 2)
    assert writes.places == before.places


async def test_a_running_feed_saves_its_position_for_the_next_one(
    client: Client, store: EventStore, checkpoint: FeedPosition, writes: Writes
) -> None:
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed):
        position = await deposit(store, 3)
        await until_fed(client, store.codec, position)
        while await checkpoint.saved() != FeedPoint(3, position):
            await client.flush()
        assert writes.places <= 2


async def test_the_end_of_the_stream_counts_more_than_the_saved_point(
    client: Client, store: EventStore, checkpoint: FeedPosition
) -> None:
    await feed_until(client, store, await deposit(store, 3))
    await checkpoint.save(FeedPoint(3, 1))
    assert await checkpoint.find(FeedPoint(3, 2)) == FeedPoint(3, 3)


@pytest.mark.parametrize("messages", [1, 3])
async def test_messages_of_others_in_the_stream_cost_no_event(
    client: Client, store: EventStore, foreign: str, messages: int
) -> None:
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed):
        await until_fed(client, store.codec, await deposit(store, 2))
        for _ in range(messages):
            await client.request(foreign, b"{}")
        await until_fed(client, store.codec, await deposit(store, 200))
    await client.request(foreign, b"{}")
    await feed_until(client, store, await deposit(store, 2))
    await assert_fed(client, store)


async def test_an_event_that_somebody_republishes_does_not_set_the_feed_back(
    client: Client, store: EventStore
) -> None:
    await feed_until(client, store, await deposit(store, 50))
    first = (await public(client, store.codec))[0]
    own = {name: text for name, text in first.headers.items() if not name.startswith("Nats-")}
    await client.request(first.subject, first.payload, headers=own)
    again = await feed_until(client, store, await deposit(store, 2))
    assert again.published == 2
    assert [position_of(each.headers) for each in await public(client, store.codec)] == [
        *range(1, 51),
        1,
        51,
        52,
    ]


async def test_many_foreign_messages_are_passed_over_by_pages(
    client: Client, store: EventStore, foreign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on writing is overtaken."""
    await asyncio.gather(*(client.request(foreign, b"{}") for _ in range(2_000)))
    requests = await counted(monkeypatch, FeedPosition(client, store.codec.subjects).find())
    assert requests.found == FeedPoint(2_000, 0)
    assert requests.single == 1
    assert requests.pages < 15


async def test_what_a_page_lacks_is_read_from_the_leader(
    client: Client, store: EventStore, foreign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a replica that lags."""
    await asyncio.gather(*(client.request(foreign, b"{}") for _ in range(200)))
    page = DirectReader.page

    async def lagging(
        reader: DirectReader, subject: str, after: int, max_messages: int
    ) -> tuple[list[StoredMessage], int]:
        messages, _ = await page(reader, subject, after, max_messages)
        return [each for each in messages if each.sequence <= 130], 0

    monkeypatch.setattr(DirectReader, "page", lagging)
    requests = await counted(monkeypatch, FeedPosition(client, store.codec.subjects).find())
    assert requests.found == FeedPoint(200, 0)
    assert requests.single == 200 - 130


@dataclass
class Requests:
    """What was found, and by how many requests."""

    found: FeedPoint
    single: int = 0
    pages: int = 0


async def counted(monkeypatch: pytest.MonkeyPatch, finding: Awaitable[FeedPoint]) -> Requests:
    requests = Requests(FeedPoint())
    leader_next, page = DirectReader.leader_next, DirectReader.page

    async def single(reader: DirectReader, subject: str, after: int) -> StoredMessage | None:
        requests.single += 1
        return await leader_next(reader, subject, after)

    async def several(
        reader: DirectReader, subject: str, after: int, max_messages: int
    ) -> tuple[list[StoredMessage], int]:
        requests.pages += 1
        return await page(reader, subject, after, max_messages)

    monkeypatch.setattr(DirectReader, "leader_next", single)
    monkeypatch.setattr(DirectReader, "page", several)
    requests.found = await finding
    return requests


async def test_after_a_foreign_message_the_feed_goes_on_by_pages(
    client: Client, store: EventStore, foreign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    async def noted(client: Client, drafts: Sequence[Draft], *others: Any) -> Any:
        sizes.append(len(drafts))
        return await publish(client, drafts, *others)

    monkeypatch.setattr("eventstore.projections.feed.feed.publish", noted)
    async with asyncio.timeout(30), running(Feed(client, store)):
        await until_fed(client, store.codec, await deposit(store, 2))
        sizes.clear()
        for _ in range(3):
            await client.request(foreign, b"{}")
            await until_fed(client, store.codec, await deposit(store, 900))
    await assert_fed(client, store)
    assert sum(sizes) >= 3 * 900
    assert len(sizes) < 100


@pytest.mark.parametrize("position", ["0", "2", "4", "9999999", "9" * 19])
@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_position_in_somebody_elses_message_is_skipped_and_reported(
    client: Client, store: EventStore, foreign: str, position: str, is_restarted: bool
) -> None:
    stray = {NatsHeader.EXPECTED_LAST_SEQUENCE: "1", POSITION: position, Header.EVENT_ID: new_id()}
    feed = Feed(client, store)
    async with asyncio.timeout(30), running(feed):
        await until_fed(client, store.codec, await deposit(store, 1))
        if not is_restarted:
            await client.request(foreign, b"{}", headers=stray)
            await until_stored(client, store, 6, await deposit(store, 4, "a2"))
    if is_restarted:
        await client.request(foreign, b"{}", headers=stray)
        feed = Feed(client, store)
        async with asyncio.timeout(30), running(feed):
            await until_stored(client, store, 6, await deposit(store, 4, "a2"))
    fed = [position_of(each.headers) for each in await public(client, store.codec)]
    assert fed == [1, int(position), 2, 3, 4, 5]
    assert list(feed.findings.by_position("foreign")) == [2]
    assert (await FeedSupervisor(lambda: feed)()).status == "degraded"


async def until_stored(client: Client, store: EventStore, count: int, position: int) -> None:
    """Return when the event stream has a number of messages, the last of this position."""
    while await last_sequence(client, store.codec) < count:
        await client.flush()
    await until_fed(client, store.codec, position)


@pytest.mark.parametrize("question", [b"STREAM.INFO", b"MSG.GET.KV_"])
async def test_a_feed_whose_connection_breaks_while_it_finds_its_position_retries(
    client: Client, store: EventStore, nats_server: EmbeddedServer, question: bytes
) -> None:
    last = await deposit(store, 3)
    async with (
        TcpProxy(nats_server) as proxy,
        connect(settings_for(proxy.url, store.codec.domain)) as own,
        EventStore(own, store.codec) as behind,
    ):
        cut = proxy.cut_after(question, "to_server", forward=False)
        async with asyncio.timeout(30), running(Feed(own, behind)):
            await until_fed(client, store.codec, last)
    assert cut.is_set()
    await assert_fed(client, store)


async def test_an_event_with_an_id_that_the_stream_has_already_is_published_when_it_forgets(
    client: Client, store: EventStore, foreign: str
) -> None:
    new = NewEvent(data=Opened(), identity=Identity.root())
    stream = store.codec.subjects.event_stream
    config = (await client.api(f"STREAM.INFO.{stream}"))["config"]
    await client.api(f"STREAM.UPDATE.{stream}", config | {"duplicate_window": 200_000_000})
    assert new.identity is not None
    await client.request(foreign, b"{}", headers={Header.MESSAGE_ID: new.identity.id})
    appended = await store.append("account", "a1", new)
    await feed_until(client, store, appended.position)
    await assert_fed(client, store)


async def test_an_unknown_type_stops_the_feed_and_is_named(
    client: Client, store: EventStore
) -> None:
    await deposit(store, 2)
    await store.append("journal", "j1", Noted())
    older = Codec(store.codec.domain, (), (Opened, Deposited))
    async with EventStore(client, older) as narrow:
        with pytest.raises(UnreadableEvent, match=r"position 3.*Noted"):
            await Feed(client, narrow).run()
    assert len(await public(client, store.codec)) == 2


async def test_what_the_store_did_not_write_is_not_published_and_stops_nothing(
    client: Client, store: EventStore
) -> None:
    await deposit(store, 1)
    log = store.codec.subjects.log("account", "a1")
    await client.request(log, b"{}")
    (genuine,) = await read_all(store)
    headers = {n: v for n, v in genuine.headers.items() if not n.startswith("Nats-")}
    forged = headers | {Header.EVENT_ID: new_id(), Header.AGGREGATE_VERSION: "2"}
    await client.request(log, b'{"amount":1000}', headers=forged)
    last = await deposit(store, 1)
    await feed_until(client, store, last)
    await assert_fed(client, store)
    assert [position_of(each.headers) for each in await public(client, store.codec)] == [1, 4]

    async with EventStore(client, store.codec) as restarted:
        assert not restarted.findings.by_position("foreign")
        last = await deposit(store, 1)
        await feed_until(client, restarted, last)
        assert list(restarted.findings.by_position("foreign")) == [2, 3]
        assert restarted.findings.count("foreign") == 2


async def test_an_unknown_type_is_left_out_with_skip_unknown(
    client: Client, store: EventStore
) -> None:
    await store.append("journal", "j1", Noted())
    last = await deposit(store, 2)
    older = Codec(store.codec.domain, (), (Opened, Deposited))
    async with EventStore(client, older) as narrow:
        feed = Feed(client, narrow, skip_unknown=True)
        async with asyncio.timeout(30), running(feed):
            await until_fed(client, store.codec, last)
    await assert_fed(client, store, after=1)


async def test_a_missing_stream_is_named(client: Client, store: EventStore) -> None:
    stream = store.codec.subjects.event_stream
    await client.api(f"STREAM.DELETE.{stream}")
    with pytest.raises(StreamMissing, match=stream):
        await Feed(client, store).run()


async def test_a_missing_bucket_is_named(client: Client, store: EventStore) -> None:
    bucket = f"KV_{store.codec.subjects.config_bucket}"
    await client.api(f"STREAM.DELETE.{bucket}")
    with pytest.raises(StreamMissing, match=bucket):
        await Feed(client, store).run()


@asynccontextmanager
async def small_messages(
    start_server: StartServer, domain: str
) -> AsyncIterator[tuple[Client, EventStore]]:
    """A store on a server that accepts messages of up to 2,000 bytes."""
    server = await start_server(max_payload=2_000)
    codec = ledger(domain)
    async with (
        connect(settings_for(server.url, domain)) as client,
        EventStore(client, codec) as store,
    ):
        await declare_feed(client, codec)
        yield client, store


async def largest(store: EventStore) -> int:
    """The length of the longest note that fits the log."""
    for length in range(2_000, 0, -1):
        with suppress(EventTooLarge):
            await store.append("account", "large", Deposited(note="x" * length))
            return length
    raise AssertionError


async def test_an_event_that_fits_only_alone_is_published_alone(
    start_server: StartServer, domain_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small_messages(start_server, domain_name) as (client, store):
        length = await largest_of_an_earlier_version(store, monkeypatch) - 30
        notes = [Deposited(note="x" * length)] * 40
        for number, note in enumerate(notes):
            await store.append("account", f"a{number}", note)
        await skip(client, store, 1)
        await feed_until(client, store, 41)
        await assert_fed(client, store, after=1)


async def test_what_fits_the_log_fits_the_event_stream(
    start_server: StartServer, domain_name: str
) -> None:
    async with small_messages(start_server, domain_name) as (client, store):
        length = await largest(store)
        with pytest.raises(EventTooLarge, match="the maximum is 2,000"):
            await store.append("account", "large", Deposited(note="x" * (length + 1)))
        await feed_until(client, store, 1)
        await assert_fed(client, store)


async def test_an_event_that_cannot_be_published_is_left_out_and_named(
    start_server: StartServer, domain_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small_messages(start_server, domain_name) as (client, store):
        await deposit(store, 2)
        with monkeypatch.context() as patch:
            await largest_of_an_earlier_version(store, patch)
        feed = await feed_until(client, store, await deposit(store, 2))
        fed = [position_of(each.headers) for each in await public(client, store.codec)]
        assert fed == [1, 2, 4, 5]
        assert feed.published == 4
        found = store.findings.by_position("unpublished")
        assert list(found) == [3]
        assert "Deposited would have" in found[3]
        assert check_findings(store.findings).status == "degraded"
        async with EventStore(client, store.codec) as restarted:
            await feed_until(client, restarted, await deposit(store, 1))
            assert list(restarted.findings.by_position("unpublished")) == [3]


async def test_an_event_that_is_left_out_at_the_end_of_the_log_stops_nothing(
    start_server: StartServer, domain_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small_messages(start_server, domain_name) as (client, store):
        with monkeypatch.context() as patch:
            await largest_of_an_earlier_version(store, patch)
        for _ in range(2):
            feed = Feed(client, store)
            async with asyncio.timeout(30), running(feed):
                while feed.pending != 0 or feed.position != 1:
                    await client.flush()
        assert store.findings.count("unpublished") == 1
        await feed_until(client, store, await deposit(store, 1))


async def test_an_event_that_its_upcaster_makes_too_large_is_left_out(
    client: Client, store: EventStore
) -> None:
    await store.append("journal", "j1", Noted())
    last = await deposit(store, 2)
    async with EventStore(client, growing(store.codec.domain)) as newer:
        await feed_until(client, newer, last)
        assert list(newer.findings.by_position("unpublished")) == [1]
    await assert_fed(client, store, after=1)


def growing(domain: str) -> Codec:
    """The ledger of newer code, which makes an older note larger than any message."""

    class Noted(Event, subject="journal.noted", schema_version=2):
        text: str = ""

    def grown(data: dict[str, Any]) -> dict[str, Any]:
        return {"text": "x" * 3_000_000}

    return Codec(domain, (), (Opened, Deposited, Noted), [Upcaster.of(("Noted", 1), None, grown)])


async def largest_of_an_earlier_version(store: EventStore, patch: pytest.MonkeyPatch) -> int:
    """Like `largest`, without space for the headers of the feed."""
    patch.setattr("eventstore.store.log_writer.PUBLICATION_HEADERS", 0)
    return await largest(store)


async def skip(client: Client, store: EventStore, position: int) -> None:
    """Have the feed begin after a position."""
    await FeedPosition(client, store.codec.subjects).save(FeedPoint(0, position))


async def test_a_feed_that_is_stopped_before_it_runs_ends_immediately(
    client: Client, store: EventStore
) -> None:
    feed = Feed(client, store)
    feed.stop()
    async with asyncio.timeout(5):
        await feed.run()


async def test_of_two_feeds_one_stands_by_and_takes_over_when_the_other_ends(
    client: Client, store: EventStore, settings: Settings
) -> None:
    async with connect(settings) as other_client, EventStore(other_client, store.codec) as other:
        one, two = Feed(client, store, standby=0.05), Feed(other_client, other, standby=0.05)
        async with asyncio.timeout(30), running(two):
            async with running(one):
                await asyncio.gather(one.ready.wait(), two.ready.wait())
                for _ in range(20):
                    await until_fed(client, store.codec, await deposit(store, 3))
            await until_fed(client, store.codec, await deposit(store, 60))
    assert one.published + two.published == 120
    assert two.published >= 60
    await assert_fed(client, store)


class Steps:
    """Interferences with the event stream, one after another; after each, all promises hold."""

    def __init__(self, client: Client, store: EventStore) -> None:
        self._client = client
        self._store = store
        self._position = 0
        self._purged = 0

    async def take(self, step: tuple[str, int]) -> None:
        what, count = step
        if what == "append":
            self._position = await deposit(self._store, count)
        elif what == "feed":
            await self._feed()
        elif what == "purge":
            await self._feed()
            await purge(self._client, self._store.codec)
            self._purged = self._position
        elif what == "foreign":
            subject = self._store.codec.subjects.event("account", "opened")
            for _ in range(count % 4):
                await self._client.request(subject, b"{}")

    async def _feed(self) -> None:
        feed = Feed(self._client, self._store)
        async with asyncio.timeout(30), running(feed):
            await feed.ready.wait()
            if self._position > self._purged:
                await until_fed(self._client, self._store.codec, self._position)
        await assert_fed(self._client, self._store, after=self._purged)

    async def end(self) -> None:
        await self.take(("append", 1))
        await self._feed()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "feed", "purge", "foreign"]), st.integers(1, 60)
    ),
    max_size=8,
)


@examples(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
async def test_with_any_interference_each_event_is_published_once_and_in_order(
    steps: list[tuple[str, int]], nats_server: EmbeddedServer
) -> None:
    domain = f"p{Identity.root().id[:8]}"
    codec = ledger(domain)
    async with (
        connect(settings_for(nats_server.url, domain)) as client,
        EventStore(client, codec) as store,
    ):
        await declare_feed(client, codec)
        model = Steps(client, store)
        for step in steps:
            await model.take(step)
        await model.end()
