"""Publishing facts: with all headers, correlated to what is handled, and once."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.errors import BatchTooLarge, Conflict, DuplicateId, InvalidId, InvalidMessage
from eventstore.messages.codec import Codec
from eventstore.messages.context import MessageContext, current
from eventstore.messages.envelope import Identity, derive_id, new_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import Header
from eventstore.messages.types import Event
from eventstore.projections.feed.feed import Feed
from eventstore.store.append import ANY, NO_STREAM, Expected
from eventstore.store.publisher import EventPublisher
from eventstore.store.store import EventStore
from eventstore.subscribers.subscriber import EventSubscriber
from tests.integration.feeding import declare_feed
from tests.integration.ledger import (
    FAST,
    Deposited,
    Noted,
    Opened,
    declare_log,
    read,
    read_all,
    until_forgotten,
)


@pytest.fixture
def publisher(store: EventStore) -> EventPublisher:
    return EventPublisher(store)


def handled(by: str = "mailer") -> MessageContext:
    """The context of a service that handles a message in the middle of a correlation."""
    return MessageContext(Identity.caused_by(Identity.root()), by, actor="ann")


async def test_a_fact_is_recorded_with_all_headers_as_the_root_of_a_correlation(
    store: EventStore, publisher: EventPublisher
) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    appended = await publisher.publish(Opened(), "a1", actor="ann", time=at)
    (event,) = await read(store, "a1")
    assert (event.data, event.version, event.position) == (Opened(), 1, appended.position)
    assert event.id == event.correlation_id == event.causation_id == appended.event_ids[0]
    assert (event.time, event.envelope.actor) == (at, "ann")
    assert event.headers[Header.MESSAGE_ID] == event.id


async def test_a_fact_about_nothing_known_begins_an_aggregate_of_its_own(
    store: EventStore, publisher: EventPublisher
) -> None:
    one = await publisher.publish(Opened())
    two = await publisher.publish(Opened())
    assert one.aggregate_id == derive_id(one.event_ids[0], "aggregate")
    assert (one.version, two.version) == (1, 1)
    assert one.aggregate_id != two.aggregate_id


async def test_each_call_outside_of_a_handler_is_a_new_event(publisher: EventPublisher) -> None:
    assert (await publisher.publish(Deposited(), "a1")).version == 1
    assert (await publisher.publish(Deposited(), "a1")).version == 2


async def test_an_id_of_the_callers_own_makes_a_repeat_known(publisher: EventPublisher) -> None:
    own = new_id()
    first = await publisher.publish(Deposited(), "a1", event_id=own)
    await publisher.publish(Deposited(), "a1")
    again = await publisher.publish(Deposited(), "a1", event_id=own)
    assert (again.duplicate, again.positions) == (True, first.positions)


async def test_an_expectation_that_does_not_hold_is_a_conflict(publisher: EventPublisher) -> None:
    await publisher.publish(Opened(), "a1", expected=NO_STREAM)
    with pytest.raises(Conflict):
        await publisher.publish(Opened(), "a1", expected=NO_STREAM)


async def test_facts_published_together_are_all_recorded_or_none(
    store: EventStore, publisher: EventPublisher
) -> None:
    facts: list[Event | tuple[Event, str]] = [
        (Opened(), "a1"),
        Noted(),
        (Deposited(), "a2"),
        (Deposited(), "a1"),
        Noted(),
    ]
    answers = await publisher.publish_many(facts, "j1")
    assert [(each.aggregate, each.aggregate_id, each.version) for each in answers] == [
        ("account", "a1", 2),
        ("journal", "j1", 2),
        ("account", "a2", 1),
    ]
    with pytest.raises(InvalidId):
        await publisher.publish_many([(Opened(), "a3"), (Opened(), "no dots.")])
    with pytest.raises(BatchTooLarge):
        await publisher.publish_many([Opened()] * 1001, "a3")
    assert await read(store, "a3") == []


async def test_facts_without_any_id_are_each_of_an_aggregate_of_its_own(
    publisher: EventPublisher,
) -> None:
    answers = await publisher.publish_many([Opened(), Opened()])
    assert len({each.aggregate_id for each in answers}) == 2


async def test_nothing_to_publish_is_nothing(publisher: EventPublisher) -> None:
    assert await publisher.publish_many([]) == []


async def test_what_is_no_event_is_refused(publisher: EventPublisher) -> None:
    with pytest.raises(InvalidMessage, match="its class has no subject"):
        await publisher.publish(Event(), "a1")


async def test_inside_a_handling_a_fact_is_caused_by_what_is_handled(
    store: EventStore, publisher: EventPublisher
) -> None:
    handling = handled()
    with handling.begun():
        await asyncio.create_task(publisher.publish(Opened(), "a1"))  # however deep in the calls
        await publisher.publish(Noted(), "j1", event_id=new_id(), actor="bob")
    opened, noted = await read_all(store)
    for event in (opened, noted):
        assert event.causation_id == handling.identity.id
        assert event.correlation_id == handling.identity.correlation_id
    assert (opened.envelope.actor, noted.envelope.actor) == ("ann", "bob")
    assert current() is None


async def test_a_message_redelivered_publishes_nothing_twice(
    store: EventStore, publisher: EventPublisher
) -> None:
    handling = handled()

    async def work() -> list[tuple[int, ...]]:
        one = await publisher.publish(Deposited(amount=1), "a1")
        new = await publisher.publish(Opened())
        two = await publisher.publish(Deposited(amount=2), "a1")
        many = await publisher.publish_many([(Noted(), "j1"), (Deposited(amount=3), "a1")])
        return [each.positions for each in (one, new, two, *many)]

    with handling.begun():
        first = await work()
    await publisher.publish(Deposited(), "a1")
    with MessageContext(handling.identity, "mailer").begun():
        assert await work() == first
    assert len(await read_all(store)) == 6


@pytest.mark.parametrize("expected", ["any", "version", "head"])
async def test_a_handler_that_is_retried_after_the_duplicate_window_records_once(
    client: Client, codec: Codec, expected: str
) -> None:
    await declare_log(client, codec, FAST)
    handling = handled()
    async with EventStore(client, codec) as store:
        publisher = EventPublisher(store)
        await publisher.publish(Opened(), "a1")

        async def work() -> list[tuple[int, ...]]:
            """As a handler does that looks first where the aggregate stands."""
            positions = []
            for amount in (1, 2):
                head = await store.head("account", "a1")
                kinds: dict[str, Expected] = {"any": ANY, "version": head.version, "head": head}
                answer = await publisher.publish(
                    Deposited(amount=amount), "a1", expected=kinds[expected]
                )
                positions.append(answer.positions)
            many = await publisher.publish_many([(Noted(), "j1"), (Deposited(amount=3), "a1")])
            return [*positions, *(each.positions for each in many)]

        with handling.begun():
            first = await work()
        for _ in range(2):
            await until_forgotten(client, codec)
            await publisher.publish(Deposited(), "a1")
            with MessageContext(handling.identity, "mailer").begun():
                assert await work() == first
        assert [event.version for event in await read(store, "a1")] == [1, 2, 3, 4, 5, 6]


async def test_facts_published_together_with_others_than_the_first_time_are_refused(
    store: EventStore, publisher: EventPublisher
) -> None:
    handling = handled()
    with handling.begun():
        await publisher.publish_many([(Deposited(), "a1"), (Noted(), "j1")])
    with MessageContext(handling.identity, "mailer").begun(), pytest.raises(DuplicateId):
        await publisher.publish_many([(Deposited(), "a1"), (Noted(), "j1"), (Noted(), "j1")])
    assert len(await read_all(store)) == 2


async def test_two_handlers_of_one_message_publish_each_their_own(
    store: EventStore, publisher: EventPublisher
) -> None:
    handling = handled("one")
    with handling.begun():
        await publisher.publish(Deposited(), "a1")
    with MessageContext(handling.identity, "two").begun():
        assert not (await publisher.publish(Deposited(), "a1")).duplicate
    assert len(await read(store, "a1")) == 2


async def test_a_subscriber_that_dies_between_its_facts_records_each_once(
    client: Client, store: EventStore, publisher: EventPublisher
) -> None:
    await declare_feed(client, store.codec)
    dying = asyncio.Event()
    done = asyncio.Event()

    async def first(event: Opened, _recorded: RecordedEvent) -> None:
        await publisher.publish(Noted(text=event.owner), "j1")
        dying.set()
        await asyncio.Event().wait()

    async def again(event: Opened, _recorded: RecordedEvent) -> None:
        await publisher.publish(Noted(text=event.owner), "j1")
        await publisher.publish(Noted(text="welcome"), "j1")
        done.set()

    cause = await publisher.publish(Opened(owner="ann"), "a1")
    async with asyncio.timeout(30), running(Feed(client, store)):
        one = EventSubscriber(client, store.codec, "r", ack_wait=0.3)
        task = asyncio.create_task(one.subscribe([Opened], first).run())
        await dying.wait()
        task.cancel()
        await asyncio.wait([task])
        two = EventSubscriber(client, store.codec, "r", ack_wait=0.3)
        async with running(two.subscribe([Opened], again)):
            await done.wait()
    notes = [event async for event in store.read("journal", "j1")]
    assert [event.data for event in notes] == [Noted(text="ann"), Noted(text="welcome")]
    assert {event.causation_id for event in notes} == set(cause.event_ids)
    assert {event.correlation_id for event in notes} == set(cause.event_ids)


async def test_a_failing_handler_that_is_retried_publishes_each_fact_once(
    client: Client, store: EventStore, publisher: EventPublisher
) -> None:
    await declare_feed(client, store.codec)
    tries = 0
    done = asyncio.Event()

    async def handler(_event: Opened, _recorded: RecordedEvent) -> None:
        nonlocal tries
        tries += 1
        await publisher.publish(Noted(text="x"), "j1")
        if tries < 3:
            raise ValueError
        done.set()

    await publisher.publish(Opened(), "a1")
    subscriber = EventSubscriber(client, store.codec, "r", backoff=0.001)
    async with (
        asyncio.timeout(30),
        running(Feed(client, store), subscriber.subscribe([Opened], handler)),
    ):
        await done.wait()
    assert len([event async for event in store.read("journal", "j1")]) == 1


names = st.sampled_from(["a", "b", "c"])


@given(first=st.lists(names), order=st.randoms(use_true_random=False))
def test_ids_depend_on_the_order_within_a_name_and_on_nothing_else(
    first: list[str], order: random.Random
) -> None:
    identity = Identity.root()
    shuffled = sorted(first, key=lambda _: order.random())
    one, two = MessageContext(identity, "x"), MessageContext(identity, "x")
    ids: dict[str, list[str]] = {}
    for name in first:
        ids.setdefault(name, []).append(one.caused(name).id)
    again: dict[str, list[str]] = {}
    for name in shuffled:
        again.setdefault(name, []).append(two.caused(name).id)
    assert ids == again
    every = [each for several in ids.values() for each in several]
    assert len(set(every)) == len(every)
