"""A subscriber that is renamed on purpose takes over the old name's position, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.errors import JetStreamError, SubscriberContinued
from eventstore.messages.codec import Codec
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessages
from eventstore.projections.feed.feed import Feed
from eventstore.store.store import EventStore
from eventstore.subscribers import consumer
from eventstore.subscribers.subscriber import EventSubscriber
from tests.integration.feeding import declare_feed, deposit, until_fed
from tests.integration.ledger import Deposited, Opened
from tests.integration.subscribers.position_recorder import PositionRecorder


@pytest.fixture(autouse=True)
async def fed(client: Client, store: EventStore) -> AsyncIterator[None]:
    await declare_feed(client, store.codec)
    async with asyncio.timeout(30), running(Feed(client, store)):
        yield


def renamed(
    client: Client, codec: Codec, recorder: PositionRecorder, **options: Any
) -> EventSubscriber:
    return EventSubscriber(client, codec, "new", continues="old", **options).subscribe([], recorder)


async def handled_by_old(client: Client, store: EventStore, count: int) -> None:
    last = await deposit(store, count)
    recorder = PositionRecorder()
    async with running(EventSubscriber(client, store.codec, "old").subscribe([], recorder)):
        await recorder.until(last)


async def test_the_new_name_begins_where_the_old_one_was(client: Client, store: EventStore) -> None:
    await handled_by_old(client, store, 3)
    last = await deposit(store, 2, "a2")
    for again in (False, True):
        recorder = PositionRecorder()
        async with running(renamed(client, store.codec, recorder, start="new")):
            last = await deposit(store, 1, "a3") if again else last
            assert await recorder.until(last) == ([6] if again else [4, 5])


async def test_the_old_name_is_refused_from_then_on(client: Client, store: EventStore) -> None:
    await handled_by_old(client, store, 1)
    async with running(one := renamed(client, store.codec, PositionRecorder())):
        await one.ready.wait()
    with pytest.raises(SubscriberContinued, match="old was renamed: new has taken over"):
        await EventSubscriber(client, store.codec, "old").subscribe([], PositionRecorder()).run()
    other = EventSubscriber(client, store.codec, "third", continues="old").subscribe(
        [], PositionRecorder()
    )
    with pytest.raises(SubscriberContinued, match="third cannot continue old: new has"):
        await other.run()


async def test_an_old_process_that_runs_ends_what_it_handles_and_gets_no_more(
    client: Client, store: EventStore
) -> None:
    old, new = PositionRecorder(), PositionRecorder()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(event: Event, recorded: Any) -> None:
        entered.set()
        await leave.wait()
        await old(event, recorded)

    async with running(EventSubscriber(client, store.codec, "old").subscribe([], slow)):
        await deposit(store, 2)
        await entered.wait()
        async with running(one := renamed(client, store.codec, new)):
            leave.set()
            await one.ready.wait()
            last = await deposit(store, 1, "a2")
            await new.until(last)
    assert sorted(old.positions + new.positions) == [1, 2, 3]
    assert 1 in old.positions


async def test_what_an_old_process_does_not_end_is_handled_by_the_new_one(
    client: Client, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.subscribers.consumer._SETTLE_SECONDS", 0.2)
    entered = asyncio.Event()

    async def die(_event: Event, _recorded: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(EventSubscriber(client, store.codec, "old").subscribe([], die).run())
    last = await deposit(store, 2)
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    recorder = PositionRecorder()
    async with running(renamed(client, store.codec, recorder)):
        assert await recorder.until(last) == [1, 2]


async def test_a_crash_in_between_loses_nothing(
    client: Client, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await handled_by_old(client, store, 2)
    last = await deposit(store, 1, "a2")

    async def crash(*_: object) -> int:
        raise JetStreamError(0, 500, "crash")

    with monkeypatch.context() as patched:
        patched.setattr(consumer, "_settled", crash)
        with pytest.raises(JetStreamError):
            await renamed(client, store.codec, PositionRecorder()).run()
    await until_fed(client, store.codec, last)
    recorder = PositionRecorder()
    async with running(renamed(client, store.codec, recorder)):
        assert await recorder.until(last) == [last]


async def test_events_may_be_gained_at_the_same_time(client: Client, store: EventStore) -> None:
    old = PositionRecorder()
    await store.append("account", "a1", [Opened(), Deposited()])
    async with running(EventSubscriber(client, store.codec, "old").subscribe([Opened], old)):
        await old.until(1)
    await store.append("account", "a2", [Opened(), Deposited()])
    recorder = PositionRecorder()
    async with running(one := renamed(client, store.codec, recorder)):
        await one.ready.wait()
        last = await deposit(store, 1, "a3")
        assert await recorder.until(last) == [3, 5]


async def test_without_an_old_name_the_start_counts(client: Client, store: EventStore) -> None:
    last = await deposit(store, 2)
    for _ in range(2):
        recorder = PositionRecorder()
        async with running(renamed(client, store.codec, recorder)):
            assert await recorder.until(last) == [last - 1, last]
        last = await deposit(store, 2, "a2")


async def test_a_name_that_has_a_position_cannot_take_over_another(
    client: Client, store: EventStore
) -> None:
    await handled_by_old(client, store, 1)
    async with running(
        one := EventSubscriber(client, store.codec, "new").subscribe([], PositionRecorder())
    ):
        await one.ready.wait()
    with pytest.raises(SubscriberContinued, match="it has a position of its own already"):
        await renamed(client, store.codec, PositionRecorder()).run()
    last = await deposit(store, 1, "a2")
    recorder = PositionRecorder()
    async with running(EventSubscriber(client, store.codec, "old").subscribe([], recorder)):
        assert await recorder.until(last) == [last]  # nothing was changed


async def test_parked_events_of_the_old_name_are_retried_by_the_new_one(
    client: Client, store: EventStore
) -> None:
    async def fail(_event: Event, _recorded: object) -> None:
        raise ValueError("no")

    recorder = PositionRecorder()
    old = EventSubscriber(client, store.codec, "old", max_attempts=1).subscribe([Opened], fail)
    async with running(old.subscribe([Deposited], recorder)):
        await store.append("account", "a1", [Opened(), Deposited()])
        await recorder.until(2)
    async with running(one := renamed(client, store.codec, recorder)):
        await one.ready.wait()
        parked = ParkedMessages(client, store.codec.subjects)
        (message,) = [each async for each in parked.read()]
        await parked.retry(message.sequence)
    assert recorder.positions == [2, 1]
