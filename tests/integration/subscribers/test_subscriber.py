"""Subscribers: typed handlers of public events, from a durable position, whatever fails."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from email.message import Message
from typing import Any
from urllib.error import HTTPError

import msgspec
import pytest
from sqlalchemy.exc import NoResultFound

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.errors import (
    ConnectionLost,
    DeciderError,
    EventsGone,
    InvalidSubject,
    PullLost,
    StreamMissing,
    SubscriberLost,
)
from eventstore.jetstream.acks import Acknowledgements, DeliveredMessage
from eventstore.jetstream.api import create_consumer, delete_consumer, find_consumer
from eventstore.jetstream.consumer import PullConsumer
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.context import current
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from eventstore.projections.feed.feed import Feed
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from eventstore.subscribers.consumer import SubscriberConsumer, declare_subscriber
from eventstore.subscribers.subscriber import EventSubscriber
from tests.conftest import StartServer, settings_for
from tests.integration.commanding import until
from tests.integration.feeding import declare_feed, deposit, public, purge, until_fed
from tests.integration.ledger import Deposited, Noted, Opened
from tests.proxy import TcpProxy

FAST: dict[str, Any] = {"backoff": 0.001}


@pytest.fixture(autouse=True)
async def fed(client: Client, store: EventStore) -> AsyncIterator[Feed]:
    """A running feed."""
    await declare_feed(client, store.codec)
    async with running(feed := Feed(client, store)):
        yield feed


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


class EventRecorder:
    """A handler that records its calls, and fails as often as configured."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.failures: list[Exception] = []
        self._more = asyncio.Event()

    async def __call__(self, event: Event, recorded: RecordedEvent) -> None:
        assert event is recorded.data
        self.events.append(recorded)
        self._more.set()
        if self.failures:
            raise self.failures.pop(0)

    @property
    def positions(self) -> list[int]:
        return [each.position for each in self.events]

    async def until(self, count: int) -> None:
        while len(self.events) < count:
            self._more.clear()
            await self._more.wait()


class Gate:
    """A handler that waits until it is released."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.calls: list[int] = []

    async def __call__(self, _event: Event, recorded: RecordedEvent) -> None:
        self.calls.append(recorded.position)
        self.entered.set()
        await self.open.wait()


@pytest.fixture
def received() -> EventRecorder:
    return EventRecorder()


async def append(store: EventStore, *events: Event, aggregate_id: str = "a1") -> int:
    aggregate = type(events[0]).__aggregate__
    return (await store.append(aggregate, aggregate_id, list(events))).position


async def parked(client: Client, codec: Codec) -> list[tuple[StoredMessage, dict[str, Any]]]:
    """The parked messages and their records."""
    stored = []
    info = await client.api(f"STREAM.INFO.{codec.subjects.parked_stream}")
    for sequence in range(1, info["state"]["last_seq"] + 1):
        answer = await client.api(
            f"STREAM.MSG.GET.{codec.subjects.parked_stream}", {"seq": sequence}
        )
        raw = answer["message"]
        payload = base64.b64decode(raw["data"])
        message = StoredMessage(raw["subject"], sequence, {}, payload)
        stored.append((message, msgspec.json.decode(payload)))
    return stored


async def pending(client: Client, codec: Codec, name: str) -> tuple[int, int]:
    """Events of a subscriber not delivered, and delivered but not acknowledged."""
    info = await client.api(f"CONSUMER.INFO.{codec.subjects.event_stream}.{name}")
    return info["num_pending"], info["num_ack_pending"]


async def test_a_handler_gets_the_events_it_subscribed_to_with_their_record(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    await append(store, Opened(owner="bob"), Deposited(amount=3))
    await append(store, Noted(text="x"), aggregate_id="j1")
    subscriber = EventSubscriber(client, store.codec, "reader")
    async with running(subscriber.subscribe([Opened, Noted], received)):
        await received.until(2)
    opened, noted = received.events
    assert opened.data == Opened(owner="bob")
    assert (opened.aggregate, opened.aggregate_id, opened.version) == ("account", "a1", 1)
    assert (noted.data, noted.position) == (Noted(text="x"), 3)
    assert subscriber.handled == 2


async def test_a_handler_without_types_gets_all_events_without_a_handler_of_their_own(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    await append(store, Opened(), Deposited())
    await append(store, Noted(), aggregate_id="j1")
    own = EventRecorder()
    subscriber = EventSubscriber(client, store.codec, "reader")
    async with running(subscriber.subscribe([Opened], own).subscribe([], received)):
        await received.until(2)
    assert (own.positions, received.positions) == ([1], [2, 3])


async def test_annotated_handlers_get_the_events_they_name(
    client: Client, store: EventStore
) -> None:
    subscriber = EventSubscriber(client, store.codec, "reader")
    got: list[object] = []
    both = asyncio.Event()

    @subscriber.handles
    async def changed(event: Opened | Deposited, recorded: RecordedEvent) -> None:
        got.append((event, recorded.version))

    @subscriber.handles
    async def noted(event: Noted, recorded: RecordedEvent) -> None:
        got.append((event, recorded.position))
        both.set()

    async with running(subscriber):
        await append(store, Opened(), Deposited())
        await append(store, Noted(), aggregate_id="j1")
        await both.wait()
    assert got == [(Opened(), 1), (Deposited(), 2), (Noted(), 3)]


async def test_a_name_resumes_at_its_position(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    await deposit(store, 3)
    async with running(EventSubscriber(client, store.codec, "r").subscribe([], received)):
        await received.until(3)
    await deposit(store, 2)
    async with running(EventSubscriber(client, store.codec, "r").subscribe([], received)):
        await received.until(5)
    assert received.positions == [1, 2, 3, 4, 5]


async def test_each_name_has_a_position_of_its_own(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    await deposit(store, 3)
    other = EventRecorder()
    one = EventSubscriber(client, store.codec, "one").subscribe([], received)
    two = EventSubscriber(client, store.codec, "two").subscribe([], other)
    async with running(one, two):
        await asyncio.gather(received.until(3), other.until(3))
    assert received.positions == other.positions == [1, 2, 3]


async def test_a_new_name_may_start_with_new_events(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    await until_fed(client, store.codec, await deposit(store, 3))
    subscriber = EventSubscriber(client, store.codec, "r", start="new").subscribe([], received)
    async with running(subscriber):
        await subscriber.ready.wait()
        await deposit(store, 1)
        await received.until(1)
    assert received.positions == [4]


@pytest.mark.parametrize("position", [0, 1, 17, 39, 40])
async def test_a_new_name_may_start_after_a_position(
    client: Client, store: EventStore, received: EventRecorder, position: int
) -> None:
    foreign = store.codec.subjects.event("account", "closed")
    await until_fed(client, store.codec, await deposit(store, 20))
    await client.request(foreign)  # so that sequence and position are not the same
    await until_fed(client, store.codec, await deposit(store, 20))
    subscriber = EventSubscriber(client, store.codec, "r", start=position)
    async with running(subscriber.subscribe([Deposited], received)):
        await subscriber.ready.wait()
        await deposit(store, 1)
        await received.until(41 - position)
    assert received.positions == list(range(position + 1, 42))


async def test_a_position_whose_next_events_are_gone_is_refused(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    await until_fed(client, store.codec, await deposit(store, 10))
    await purge(client, store.codec)
    await until_fed(client, store.codec, await deposit(store, 1))
    subscriber = EventSubscriber(client, store.codec, "r", start=4).subscribe([], received)
    with pytest.raises(EventsGone, match="begins at position 11") as gone:
        await subscriber.run()
    assert (gone.value.position, gone.value.first) == (4, 11)


async def test_an_event_is_redelivered_if_its_process_dies(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    gate = Gate()
    await deposit(store, 2)
    dying = EventSubscriber(client, store.codec, "r", ack_wait=0.3).subscribe([], gate)
    task = asyncio.create_task(dying.run())
    await gate.entered.wait()
    task.cancel()
    await asyncio.wait([task])
    again = EventSubscriber(client, store.codec, "r", ack_wait=0.3).subscribe([], received)
    async with running(again):
        await received.until(2)
    assert received.positions == [1, 2]


async def test_a_handler_that_takes_longer_than_the_wait_is_called_once(
    client: Client, store: EventStore
) -> None:
    gate = Gate()
    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "r", ack_wait=0.3, ordered=False)
    async with running(subscriber.subscribe([], gate)):
        await gate.entered.wait()
        for _ in range(3):
            await until_in_progress(client, store.codec)
        assert (await pending(client, store.codec, "r"))[1] == 2
        gate.open.set()
        await until_settled(client, store.codec, "r")
    assert gate.calls == [1, 2]


async def until_in_progress(client: Client, codec: Codec) -> None:
    """Return when the subscriber has reported progress to the server."""
    logged = asyncio.Event()

    async def hear(message: Any) -> None:
        if message.data == b"+WPI":
            logged.set()

    subscription = await client.subscribe(f"$JS.ACK.{codec.subjects.event_stream}.>", hear)
    await logged.wait()
    await subscription.unsubscribe()


async def test_a_failing_handler_is_retried_and_the_order_preserved(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    received.failures = [ValueError("one"), ValueError("two")]
    await deposit(store, 3)
    subscriber = EventSubscriber(client, store.codec, "r", **FAST)
    async with running(subscriber.subscribe([], received)):
        await received.until(5)
    assert received.positions == [1, 1, 1, 2, 3]
    assert (subscriber.handled, subscriber.parked) == (3, 0)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_handler_that_awaited_a_cancelled_task_is_retried(
    client: Client, store: EventStore, received: EventRecorder, *, ordered: bool
) -> None:
    async def handle(event: Event, recorded: RecordedEvent) -> None:
        await received(event, recorded)
        if len(received.events) == 1:
            helper = asyncio.create_task(asyncio.sleep(60))
            helper.cancel()
            await helper

    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "r", ordered=ordered, **FAST)
    async with running(subscriber.subscribe([], handle)):
        await received.until(3)
    assert received.positions == [1, 1, 2]
    assert (subscriber.handled, subscriber.parked) == (2, 0)


async def test_cancelling_a_subscriber_is_not_a_failure_of_its_handler(
    client: Client, store: EventStore
) -> None:
    gate = Gate()
    await deposit(store, 1)
    subscriber = EventSubscriber(client, store.codec, "r", **FAST).subscribe([], gate)
    task = asyncio.create_task(subscriber.run())
    await gate.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.calls == [1]
    assert (subscriber.handled, subscriber.parked) == (0, 0)


async def test_an_event_whose_handler_keeps_failing_is_parked_and_the_next_follows(
    client: Client, store: EventStore, received: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    received.failures = [ValueError("no"), ValueError("no"), ValueError("really not")]
    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "mailer", max_attempts=3, **FAST)
    async with running(subscriber.subscribe([], received)):
        await received.until(4)
    assert received.positions == [1, 1, 1, 2]
    assert (subscriber.handled, subscriber.parked) == (1, 1)
    lines = [(each.message[-8:], bool(each.exc_info)) for each in caplog.records]
    assert lines == [("rror: no", True), ("rror: no", False), ("ally not", True)]
    ((message, record),) = await parked(client, store.codec)
    original = (await public(client, store.codec))[0]
    assert message.subject == f"{store.codec.domain}.parked.event.mailer.account.deposited"
    assert record["subject"] == original.subject
    assert record["headers"] == original.headers
    assert base64.b64decode(record["payload"]) == original.payload
    assert record["code"] == "handler_failed"
    assert record["reason"] == "really not"
    assert (record["sequence"], record["delivered"], record["attempts"]) == (1, 1, 3)
    assert await pending(client, store.codec, "mailer") == (0, 0)


async def test_each_of_two_subscribers_parks_the_same_event(
    client: Client, store: EventStore
) -> None:
    one, two = EventRecorder(), EventRecorder()
    one.failures, two.failures = [ValueError()], [ValueError()]
    await deposit(store, 2)
    async with running(
        EventSubscriber(client, store.codec, "one", max_attempts=1).subscribe([], one),
        EventSubscriber(client, store.codec, "two", max_attempts=1).subscribe([], two),
    ):
        await asyncio.gather(one.until(2), two.until(2))
    records = [record for _, record in await parked(client, store.codec)]
    assert sorted(record["subscriber"] for record in records) == ["one", "two"]
    assert {record["reason"] for record in records} == {"ValueError"}


async def test_a_foreign_message_is_parked_immediately(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    foreign = store.codec.subjects.event("account", "deposited")
    await until_fed(client, store.codec, await deposit(store, 1))
    await client.request(foreign, b"not even JSON", headers={"X-Position": "1"})
    await client.request(foreign, b"{}")
    await deposit(store, 1)
    subscriber = EventSubscriber(client, store.codec, "r").subscribe([Deposited], received)
    async with running(subscriber):
        await received.until(2)
    records = [record for _, record in await parked(client, store.codec)]
    assert [record["code"] for record in records] == ["invalid_header", "invalid_header"]
    assert [record["attempts"] for record in records] == [0, 0]
    assert "X-Aggregate-ID" in records[0]["reason"]
    assert "X-Position" in records[1]["reason"]


async def test_an_event_too_large_for_one_record_is_parked_in_parts(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    received.failures = [ValueError("no")]
    await append(store, Deposited(note="x" * 900_000))
    await deposit(store, 1)
    subscriber = EventSubscriber(client, store.codec, "r", max_attempts=1).subscribe([], received)
    async with running(subscriber):
        await received.until(2)
    info = await client.api(f"STREAM.INFO.{store.codec.subjects.parked_stream}")
    assert info["state"]["messages"] == 2


async def test_an_event_that_cannot_be_parked_is_redelivered_before_the_next(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    received.failures = [ValueError("no"), ValueError("no")]
    stream = store.codec.subjects.parked_stream
    await client.api(f"STREAM.DELETE.{stream}")
    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "r", max_attempts=1).subscribe([], received)
    async with running(subscriber):
        await received.until(1)
        await declare_feed(client, store.codec)
        await received.until(3)
    assert received.positions == [1, 1, 2]
    assert subscriber.parked == 1


class Coded(Exception):
    """An error of another library, with a code of its own."""

    def code(self) -> int:
        return 14


async def test_a_parked_record_is_readable_whatever_the_handler_raised(
    client: Client, store: EventStore, received: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "eventstore")  # one of them cannot be printed
    received.failures = [
        HTTPError("http://x", 404, "Not Found", Message(), None),
        NoResultFound("none"),
        Coded("unavailable"),
        ValueError("cannot open 'b\udcffd.txt'"),
        InvalidSubject("bad"),
    ]
    await deposit(store, 6)
    subscriber = EventSubscriber(client, store.codec, "r", max_attempts=1).subscribe([], received)
    async with running(subscriber):
        await received.until(6)
    found = [
        each.record
        async for each in ParkedMessages(client, store.codec.subjects).read()
        if isinstance(each, ParkedMessage)
    ]
    assert [record.code for record in found] == ["handler_failed"] * 4 + ["invalid_subject"]
    assert [record.reason for record in found] == [
        "HTTP Error 404: Not Found",
        "none",
        "unavailable",
        "cannot open 'b?d.txt'",
        "bad",
    ]


class Unspeakable(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise TypeError("not a text")


async def test_an_event_is_redelivered_after_an_unexpected_failure_of_parking(
    client: Client, store: EventStore, received: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    received.failures = [Unspeakable()]
    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "r", max_attempts=1).subscribe([], received)
    async with running(subscriber):
        await received.until(3)
    assert received.positions == [1, 1, 2]
    assert (subscriber.handled, subscriber.parked) == (2, 0)
    assert "at sequence 1: not a text" in caplog.text


async def test_stopping_requeues_an_event_that_waits_for_its_next_attempt(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    received.failures = [ValueError("no")]
    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "r", backoff=60)
    async with running(subscriber.subscribe([], received)):
        await received.until(1)
    async with running(EventSubscriber(client, store.codec, "r").subscribe([], received)):
        await received.until(3)
    assert received.positions == [1, 1, 2]


async def test_stopping_lets_the_handler_end_and_requeues_the_others(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    gate = Gate()
    await until_fed(client, store.codec, await deposit(store, 5))
    subscriber = EventSubscriber(client, store.codec, "r", ordered=False)
    async with running(subscriber.subscribe([], gate)):
        await gate.entered.wait()
        await until_pending(client, store.codec, "r", 5)
        subscriber.stop()
        gate.open.set()
    assert gate.calls == [1]
    async with running(
        EventSubscriber(client, store.codec, "r", ordered=False).subscribe([], received)
    ):
        await received.until(4)
    assert sorted(received.positions) == [2, 3, 4, 5]


async def until_pending(client: Client, codec: Codec, name: str, count: int) -> None:
    while (await pending(client, codec, name))[1] != count:
        pass


async def test_unordered_events_are_handled_concurrently_in_order_within_an_aggregate(
    client: Client, store: EventStore
) -> None:
    everyone = asyncio.Barrier(8)
    seen: dict[str, list[int]] = {}
    done = asyncio.Event()
    for version in range(1, 4):
        for number in range(8):
            await append(store, Deposited(amount=version), aggregate_id=f"a{number}")

    async def meet(_event: Event, recorded: RecordedEvent) -> None:
        await everyone.wait()
        seen.setdefault(recorded.aggregate_id, []).append(recorded.version)
        if sum(map(len, seen.values())) == 24:
            done.set()

    subscriber = EventSubscriber(client, store.codec, "r", ordered=False)
    async with running(subscriber.subscribe([], meet)):
        await done.wait()
    assert seen == {f"a{number}": [1, 2, 3] for number in range(8)}


async def test_two_processes_of_one_name_share_the_events_in_order(
    client: Client, store: EventStore, settings: Settings
) -> None:
    both: list[int] = []
    done = asyncio.Event()

    async def note(_event: Event, recorded: RecordedEvent) -> None:
        both.append(recorded.position)
        if len(both) == 200:
            done.set()

    async with connect(settings) as other:
        one = EventSubscriber(client, store.codec, "r").subscribe([], note)
        two = EventSubscriber(other, store.codec, "r").subscribe([], note)
        async with running(one, two):
            await asyncio.gather(one.ready.wait(), two.ready.wait())
            await deposit(store, 200)
            await done.wait()
    assert both == list(range(1, 201))
    assert one.handled + two.handled == 200


async def test_at_most_once_a_failed_event_is_parked_and_not_retried(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    received.failures = [ValueError("no")]
    await deposit(store, 2)
    subscriber = EventSubscriber(client, store.codec, "r", acknowledge="before")
    async with running(subscriber.subscribe([], received)):
        await received.until(2)
    assert received.positions == [1, 2]
    assert subscriber.parked == 1


async def test_at_most_once_an_event_is_not_redelivered_after_a_crash(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    gate = Gate()
    await deposit(store, 2)
    dying = EventSubscriber(client, store.codec, "r", acknowledge="before", ack_wait=0.3).subscribe(
        [], gate
    )
    task = asyncio.create_task(dying.run())
    await gate.entered.wait()
    task.cancel()
    await asyncio.wait([task])
    again = EventSubscriber(client, store.codec, "r", acknowledge="before", ack_wait=0.3).subscribe(
        [], received
    )
    async with running(again):
        await received.until(1)
    assert received.positions == [2]


async def test_at_most_once_a_slow_handler_gets_no_event_twice(
    client: Client, store: EventStore
) -> None:
    gate = Gate()
    await deposit(store, 3)
    subscriber = EventSubscriber(client, store.codec, "r", acknowledge="before", ack_wait=0.3)
    async with running(subscriber.subscribe([], gate)):
        await gate.entered.wait()
        for _ in range(4):
            await until_in_progress(client, store.codec)
        gate.open.set()
        await until_settled(client, store.codec, "r")
    assert gate.calls == [1, 2, 3]


async def until_settled(client: Client, codec: Codec, name: str) -> None:
    while await pending(client, codec, name) != (0, 0):
        pass


@pytest.mark.parametrize("acknowledge", ["after", "before"])
async def test_broken_connections_lose_no_event_and_repeat_none_that_this_process_handled(
    client: Client,
    store: EventStore,
    nats_server: EmbeddedServer,
    received: EventRecorder,
    acknowledge: Any,
) -> None:
    async with (
        TcpProxy(nats_server) as proxy,
        connect(settings_for(proxy.url, store.codec.domain)) as cut,
    ):
        subscriber = EventSubscriber(
            cut, store.codec, "r", acknowledge=acknowledge, ack_wait=0.5
        ).subscribe([], received)
        async with running(subscriber):
            for round_ in range(5):
                fired = proxy.cut_after(b"+ACK", "to_server", forward=round_ % 2 == 0)
                await deposit(store, 3)
                await fired.wait()
            await deposit(store, 1)
            await until_position(received, 16)
            await until_settled(client, store.codec, "r")
    assert received.positions == sorted(set(received.positions))
    if acknowledge == "after":
        assert received.positions == list(range(1, 17))


async def test_a_server_that_restarts_is_waited_for(
    start_server: StartServer, codec: Codec, received: EventRecorder
) -> None:
    server = await start_server()
    async with (
        connect(settings_for(server.url, codec.domain)) as client,
        EventStore(client, codec) as store,
    ):
        await declare_feed(client, codec)
        subscriber = EventSubscriber(client, codec, "r", ack_wait=0.5).subscribe([], received)
        async with running(Feed(client, store), subscriber):
            await deposit(store, 10)
            await received.until(5)
            server.kill()
            await server.start()
            await client.wait_connected(20)
            await deposit(store, 1)
            await until_position(received, 11)
    assert received.positions == list(range(1, 12))


async def test_only_the_last_acknowledged_events_are_remembered(
    client: Client, store: EventStore, received: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.jetstream.acks._MAX_REMEMBERED", 1)
    subscriber = EventSubscriber(client, store.codec, "r").subscribe([], received)
    async with running(subscriber):
        await deposit(store, 3)
        await received.until(3)
        await until_settled(client, store.codec, "r")
    assert len(subscriber._acks._acked) == 1


async def test_an_event_redelivered_while_it_is_tracked_is_not_handled_twice(
    client: Client, store: EventStore
) -> None:
    await deposit(store, 1)
    subjects = store.codec.subjects
    consumer = SubscriberConsumer("r", frozenset({subjects.filter("event")}), ack_wait=0.2)
    await declare_subscriber(client, subjects, consumer, "all")
    settling = Acknowledgements(client)
    async with PullConsumer(client, store.codec.subjects.event_stream, "r", buffer=2) as pull:
        (first,), (second,) = await pull.take(1), await pull.take(1)
        taken = DeliveredMessage(first)
        assert await settling.track(taken)
        assert not await settling.track(DeliveredMessage(second))
        await settling.ack(taken)
        assert not await settling.track(DeliveredMessage(second))
        await until_settled(client, store.codec, "r")


async def until_position(received: EventRecorder, position: int) -> None:
    while position not in received.positions:
        await received.until(len(received.events) + 1)


async def test_handlers_have_the_context_of_their_event(client: Client, store: EventStore) -> None:
    known: list[Any] = []
    done = asyncio.Event()

    async def note(_event: Event, recorded: RecordedEvent) -> None:
        handling = current()
        assert handling is not None
        known.append((handling.identity, handling.by, recorded.envelope.identity))
        done.set()

    await deposit(store, 1)
    subscriber = EventSubscriber(client, store.codec, "r").subscribe([], note)
    async with running(subscriber):
        await done.wait()
    ((identity, by, own),) = known
    assert (identity, by) == (own, "r")
    assert current() is None


async def test_a_consumer_deleted_under_a_subscriber_is_waited_for(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    stream = store.codec.subjects.event_stream
    subscriber = EventSubscriber(client, store.codec, "r").subscribe([], received)
    async with running(subscriber):
        await deposit(store, 1)
        await received.until(1)
        info = await find_consumer(client, stream, "r")
        assert info is not None
        await delete_consumer(client, stream, "r")

        async def is_lost() -> bool:
            return isinstance(subscriber.error, SubscriberLost)

        await until(is_lost)
        await deposit(store, 2)
        again = {"deliver_policy": "by_start_sequence", "opt_start_seq": 2}
        await create_consumer(client, stream, "r", {**info.config, **again})
        await received.until(2)


async def test_what_arrives_when_the_server_is_taken_for_silent_is_redelivered(
    client: Client, store: EventStore, received: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that was frozen: its timer rings before it reads what has come."""
    wait = PullConsumer._wait

    async def too_late(pull: PullConsumer) -> None:
        await wait(pull)
        if pull._messages:
            monkeypatch.undo()
            raise PullLost("the consumer has been silent for two heartbeats")

    monkeypatch.setattr(PullConsumer, "_wait", too_late)
    async with running(EventSubscriber(client, store.codec, "r").subscribe([], received)):
        await deposit(store, 2)
        await received.until(2)
    assert received.positions == [1, 2]


@pytest.mark.parametrize("start", ["all", 3])
async def test_a_missing_stream_is_named(
    client: Client, store: EventStore, received: EventRecorder, fed: Feed, start: Any
) -> None:
    await fed.ready.wait()
    stream = store.codec.subjects.event_stream
    await client.api(f"STREAM.DELETE.{stream}")
    with pytest.raises(StreamMissing, match=stream):
        await EventSubscriber(client, store.codec, "r", start=start).subscribe([], received).run()


async def test_a_connection_closed_for_good_ends_the_subscriber(
    client: Client, store: EventStore, received: EventRecorder, settings: Settings
) -> None:
    async with connect(settings) as other:
        subscriber = EventSubscriber(other, store.codec, "r").subscribe([], received)
        task = asyncio.create_task(subscriber.run())
        await subscriber.ready.wait()
        await other.close()
        with pytest.raises(ConnectionLost):
            await task


async def test_an_event_that_no_process_survives_is_parked(
    client: Client, store: EventStore, received: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.subscribers.processor._MAX_DELIVERIES", 1)
    await deposit(store, 1)
    gate = Gate()
    dying = EventSubscriber(client, store.codec, "r", ack_wait=0.3).subscribe([], gate)
    task = asyncio.create_task(dying.run())
    await gate.entered.wait()
    task.cancel()
    await asyncio.wait([task])
    again = EventSubscriber(client, store.codec, "r", ack_wait=0.3).subscribe([], received)
    async with running(again):
        await deposit(store, 1)
        await received.until(1)
    assert received.positions == [2]
    ((_, record),) = await parked(client, store.codec)
    assert "no process survived" in record["reason"]


async def test_an_event_that_the_consumer_lets_through_by_an_edit_is_parked(
    client: Client, store: EventStore, received: EventRecorder
) -> None:
    subscriber = EventSubscriber(client, store.codec, "r", **FAST).subscribe([Opened], received)
    async with running(subscriber):
        await subscriber.ready.wait()
        stream = store.codec.subjects.event_stream
        config = (await client.api(f"CONSUMER.INFO.{stream}.r"))["config"]
        wider = config | {"filter_subject": store.codec.subjects.filter("event")}
        await client.api(f"CONSUMER.CREATE.{stream}.r", {"stream_name": stream, "config": wider})
        await append(store, Deposited(), Opened())
        await received.until(1)
    ((_, record),) = await parked(client, store.codec)
    assert record["reason"] == "subscriber r has no handler of Deposited"


def wrong(codec: Codec) -> dict[str, Callable[[EventSubscriber], object]]:
    async def unannotated(event, recorded) -> None: ...  # type: ignore[no-untyped-def]
    async def one(event: Opened) -> None: ...
    async def base(event: Event, recorded: RecordedEvent) -> None: ...
    async def opened(event: Opened, recorded: RecordedEvent) -> None: ...
    async def unknown(event: "Nowhere", recorded: RecordedEvent) -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
    def plain(event: Opened, recorded: RecordedEvent) -> None: ...

    return {
        "annotate": lambda each: each.handles(unannotated),
        "takes an event and its record": lambda each: each.handles(one),
        "annotate the first": lambda each: each.handles(base),
        "not understood": lambda each: each.handles(unknown),
        "must be async": lambda each: each.handles(plain),
        "already has": lambda each: (each.handles(opened), each.subscribe([Opened], base)),
        "is not an event": lambda each: each.subscribe([str], base),
        "second handler of all": lambda each: each.subscribe([], base).subscribe([], opened),
    }


@pytest.mark.parametrize("problem", list(wrong(Codec("x", (), ()))))
async def test_handlers_that_cannot_work_are_refused(
    client: Client, store: EventStore, problem: str
) -> None:
    with pytest.raises(DeciderError, match=problem):
        wrong(store.codec)[problem](EventSubscriber(client, store.codec, "r"))


async def test_a_subscriber_without_handlers_is_refused(client: Client, store: EventStore) -> None:
    with pytest.raises(DeciderError, match="has no handler"):
        await EventSubscriber(client, store.codec, "r").run()


class Elsewhere(Event, subject="elsewhere.happened"):
    pass


async def test_a_handler_of_an_event_that_the_domain_does_not_have_is_refused(
    client: Client, store: EventStore
) -> None:
    subscriber = EventSubscriber(client, store.codec, "r").subscribe([Elsewhere], Gate())
    with pytest.raises(DeciderError, match=r"subscriber r: no decider of .* evolves by Elsewhere"):
        await subscriber.run()


async def test_a_name_that_no_subject_can_contain_is_refused(
    client: Client, store: EventStore
) -> None:
    with pytest.raises(InvalidSubject, match="subscriber"):
        EventSubscriber(client, store.codec, "no.dots")
