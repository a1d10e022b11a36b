"""What a name subscribes to changes: its position stays, and releases may run side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.errors import StreamDrift
from eventstore.messages.codec import Codec
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.subscribers_check import SubscribersCheck
from eventstore.store.store import EventStore
from eventstore.subscribers.positions import log_end
from eventstore.subscribers.subscriber import EventSubscriber
from tests.integration.feeding import declare_feed, until_fed
from tests.integration.ledger import Deposited, Noted, Opened
from tests.integration.subscribers.position_recorder import PositionRecorder

Types = Sequence[type[Event]]


@pytest.fixture(autouse=True)
async def bound(client: Client, codec: Codec) -> AsyncIterator[None]:
    await declare_feed(client, codec)
    async with asyncio.timeout(30):
        yield


def subscriber(
    client: Client, codec: Codec, types: Types, recorder: PositionRecorder, **options: Any
) -> EventSubscriber:
    made = EventSubscriber(client, codec, "r", **{"backoff": 0.001, **options})
    return made.subscribe(types, recorder)


async def append(store: EventStore, *events: Event, to: str = "a1") -> int:
    """Append events; the position of the last."""
    return (await store.append(type(events[0]).__aggregate__, to, list(events))).position


async def handled(client: Client, store: EventStore, types: Types, up_to: int) -> list[int]:
    """The positions that a process handles until it has handled the last one."""
    recorder = PositionRecorder()
    async with running(subscriber(client, store.codec, types, recorder), Feed(client, store)):
        return await recorder.until(up_to)


async def once_started(client: Client, codec: Codec, types: Types) -> None:
    one = subscriber(client, codec, types, PositionRecorder())
    async with running(one):
        await one.ready.wait()


async def test_a_gained_event_is_handled_from_then_on_and_none_that_passed_before(
    client: Client, store: EventStore
) -> None:
    await append(store, Opened(), Deposited(), Deposited())
    assert await handled(client, store, [Opened], 1) == [1]
    await append(store, Deposited(), Opened(), Deposited(), to="a2")
    recorder = PositionRecorder()
    one = subscriber(client, store.codec, [Opened, Deposited], recorder)
    async with running(one, Feed(client, store)):
        await one.ready.wait()
        last = await append(store, Deposited(), to="a2")
        assert await recorder.until(last) == [5, last]


async def test_processes_of_a_new_release_that_start_at_once_lose_nothing(
    client: Client, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one has set is not replaced by what the other had read before."""
    await append(store, Opened())
    assert await handled(client, store, [Opened], 1) == [1]
    both: Types = [Opened, Deposited]
    others = [1]

    async def while_another_starts(*names: Any) -> int | None:
        if others:
            others.clear()
            await once_started(client, store.codec, both)
            await append(store, Deposited(), to="a2")
        return await log_end(*names)

    monkeypatch.setattr("eventstore.subscribers.consumer.log_end", while_another_starts)
    assert await handled(client, store, both, 2) == [2]


async def test_a_gained_event_that_is_published_later_but_was_acknowledged_before_is_not_handled(
    client: Client, store: EventStore
) -> None:
    await once_started(client, store.codec, [Opened])
    await append(store, Opened(), Deposited())
    recorder = PositionRecorder()
    one = subscriber(client, store.codec, [Opened, Deposited], recorder)
    async with running(one):
        await one.ready.wait()
        async with running(Feed(client, store)):
            last = await append(store, Deposited(), to="a2")
            assert await recorder.until(last) == [1, last]


async def test_a_lost_event_is_not_handled_any_more_and_the_others_are(
    client: Client, store: EventStore
) -> None:
    await append(store, Opened(), Deposited())
    assert await handled(client, store, [Opened, Deposited], 2) == [1, 2]
    last = await append(store, Deposited(), Opened(), to="a2")
    assert await handled(client, store, [Opened], last) == [last]


async def test_an_event_that_was_lost_and_is_gained_again_begins_anew(
    client: Client, store: EventStore
) -> None:
    await once_started(client, store.codec, [Opened, Deposited])
    await once_started(client, store.codec, [Opened])
    await append(store, Opened(), Deposited())
    await once_started(client, store.codec, [Opened, Deposited])
    last = await append(store, Deposited(), to="a2")
    assert await handled(client, store, [Opened, Deposited], last) == [1, last]


@pytest.mark.parametrize("narrowed", [False, True])
async def test_all_events_and_named_ones_replace_each_other(
    client: Client, store: EventStore, narrowed: bool
) -> None:
    before, after = ([], [Opened]) if narrowed else ([Opened], [])
    await once_started(client, store.codec, before)
    await append(store, Opened(), Deposited())
    await once_started(client, store.codec, after)
    await append(store, Noted(text="x"), to="n1")
    last = await append(store, Opened(), to="a2")
    expected = [1, last] if narrowed else [1, 3, last]
    assert await handled(client, store, after, last) == expected


async def test_an_older_process_leaves_gained_events_to_newer_ones(
    client: Client, store: EventStore
) -> None:
    old, new = PositionRecorder(), PositionRecorder()
    older = subscriber(client, store.codec, [Opened], old, ordered=False)
    async with running(Feed(client, store), older):
        await older.ready.wait()
        newer = subscriber(client, store.codec, [Opened, Deposited], new, ordered=False)
        async with running(newer):
            await newer.ready.wait()
            last = 0
            for number in range(40):
                last = await append(store, Deposited(), to=f"a{number}")
            await new.until_count(40)
    assert sorted(new.positions) == list(range(1, last + 1))
    assert old.positions == []
    assert newer.parked == older.parked == 0


@pytest.mark.parametrize("ordered", [True, False])
async def test_nothing_is_lost_or_handled_twice_while_releases_take_turns(
    client: Client, store: EventStore, ordered: bool
) -> None:
    opened, gained = PositionRecorder(), PositionRecorder()

    def release(types: Types) -> EventSubscriber:
        made = EventSubscriber(
            client, store.codec, "r", backoff=0.001, ordered=ordered, ack_wait=2.0
        )
        made.subscribe([Opened], opened)
        return made.subscribe([Deposited], gained) if Deposited in types else made

    async def appended(first: int) -> int:
        for number in range(first, first + 30):
            last = await append(store, Opened(), Deposited(), to=f"a{number}")
        return last

    async with running(Feed(client, store)):
        async with running(older := release([Opened])):
            await older.ready.wait()
            appending = asyncio.create_task(appended(0))
            await opened.until_count(5)
            async with running(newer := release([Opened, Deposited])):
                await newer.ready.wait()
                older.stop()
                since = await appending
                last = await appended(100)
                await opened.until_count(60)
                await gained.until(last)
        async with running(lesser := release([Opened])):
            await lesser.ready.wait()
            await opened.until((await appended(200)) - 1)
    assert sorted(opened.positions) == list(range(1, 180, 2))
    assert sorted(set(gained.positions)) == sorted(gained.positions)
    assert set(range(since + 2, last + 1, 2)) <= set(gained.positions)
    assert max(gained.positions) == last


async def test_an_older_process_that_is_restarted_takes_nothing_from_newer_ones(
    client: Client, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    await once_started(client, store.codec, [Opened])
    recorder, old = PositionRecorder(), PositionRecorder()
    newer = subscriber(client, store.codec, [Opened, Deposited], recorder)
    older = subscriber(client, store.codec, [Opened], old)
    with caplog.at_level(logging.WARNING):
        async with running(Feed(client, store), newer):
            await newer.ready.wait()
            async with running(older):
                await older.ready.wait()
                last = await append(store, Deposited(), Deposited())
                assert await recorder.until(last) == [1, 2]
    assert old.positions == []
    assert "newer processes run" in caplog.text


async def test_an_older_release_decides_again_if_it_is_started_alone(
    client: Client, store: EventStore
) -> None:
    await once_started(client, store.codec, [Opened])
    await once_started(client, store.codec, [Opened, Deposited])
    last = await append(store, Deposited(), Opened())
    assert await handled(client, store, [Opened], last) == [last]
    last = await append(store, Deposited(), Opened(), to="a2")
    assert await handled(client, store, [Opened], last) == [last]


async def test_an_event_that_only_gone_processes_handle_is_parked_for_them(
    client: Client, store: EventStore
) -> None:
    old = PositionRecorder()
    older = subscriber(client, store.codec, [Opened], old)
    async with running(Feed(client, store), older):
        await older.ready.wait()
        newer = subscriber(client, store.codec, [Opened, Deposited], PositionRecorder())
        async with running(newer):
            await newer.ready.wait()
        last = await append(store, Deposited(), Opened())
        assert await old.until(last) == [last]
    parked = ParkedMessages(client, store.codec.subjects)
    (message,) = [each async for each in parked.read()]
    assert isinstance(message, ParkedMessage)
    assert message.record.reason == "subscriber r has no handler of Deposited"
    recorder = PositionRecorder()
    async with running(again := subscriber(client, store.codec, [Opened, Deposited], recorder)):
        await again.ready.wait()
        await parked.retry(message.sequence)
    assert recorder.positions == [1]


async def test_what_was_delivered_of_a_lost_event_is_left_out(
    client: Client, store: EventStore
) -> None:
    gate = asyncio.Event()

    async def die(_event: Event, _recorded: object) -> None:
        gate.set()
        await asyncio.Event().wait()

    one = EventSubscriber(client, store.codec, "r", ack_wait=0.3).subscribe([Opened], die)
    async with running(Feed(client, store)):
        task = asyncio.create_task(one.run())
        await append(store, Opened(), Deposited())
        await gate.wait()
        task.cancel()
        await asyncio.wait([task])
        last = await append(store, Deposited(), to="a2")
        await until_fed(client, store.codec, last)
        recorder = PositionRecorder()
        other = subscriber(client, store.codec, [Deposited], recorder, ack_wait=0.3)
        async with running(other):
            await other.ready.wait()
            last = await append(store, Deposited(), to="a3")
            assert await recorder.until(last) == [last]
    assert other.parked == 0


async def test_how_much_is_delivered_at_a_time_and_for_how_long_may_change(
    client: Client, store: EventStore
) -> None:
    stream = store.codec.subjects.event_stream
    await append(store, Opened(), Deposited())
    assert await handled(client, store, [], 2) == [1, 2]
    handed = PositionRecorder()
    one = subscriber(client, store.codec, [], handed, ordered=False, max_concurrency=3, ack_wait=7)
    async with running(one, Feed(client, store)):
        await one.ready.wait()
        config = (await client.api(f"CONSUMER.INFO.{stream}.r"))["config"]
        assert (config["max_ack_pending"], config["ack_wait"]) == (3, 7_000_000_000)
        last = await append(store, Deposited(), to="a2")
        assert await handed.until(last) == [last]  # the position stays


async def test_an_older_process_that_is_restarted_does_not_change_that_back(
    client: Client, store: EventStore
) -> None:
    await once_started(client, store.codec, [Opened])
    newer = subscriber(client, store.codec, [], PositionRecorder(), ack_wait=7)
    older = subscriber(client, store.codec, [Opened], PositionRecorder(), ack_wait=3)
    check = SubscribersCheck(client, store.codec.subjects, [older])
    async with running(newer):
        await newer.ready.wait()
        async with running(older):
            await older.ready.wait()
            assert "have set ack_wait to 7, not 3" in str((await check()).problem)


async def test_of_two_new_releases_started_at_once_the_one_with_more_events_decides(
    client: Client, store: EventStore
) -> None:
    stream = store.codec.subjects.event_stream
    await once_started(client, store.codec, [Opened])
    larger: Types = [Opened, Deposited, Noted]
    pairs: list[tuple[Types, Types]] = [(larger, [Deposited]), ([Noted], larger)]
    for first, second in pairs:
        names = [each.__name__ for each in (*first, *second)]
        every = [
            subscriber(client, store.codec, types, PositionRecorder()) for types in (first, second)
        ]
        async with running(*every):
            for each in every:
                await each.ready.wait()
            filters = (await client.api(f"CONSUMER.INFO.{stream}.r"))["config"]["filter_subjects"]
            assert len(filters) == len(larger), names
        # The smaller one is known as the older one, and stays so beside the other.
        smaller = min(first, second, key=len)
        async with running(
            every_larger := subscriber(client, store.codec, larger, PositionRecorder())
        ):
            await every_larger.ready.wait()
            await once_started(client, store.codec, smaller)
            filters = (await client.api(f"CONSUMER.INFO.{stream}.r"))["config"]["filter_subjects"]
            assert len(filters) == len(larger), names
        await once_started(client, store.codec, [Opened])


async def test_other_settings_of_the_consumer_are_still_refused(
    client: Client, store: EventStore
) -> None:
    stream = store.codec.subjects.event_stream
    config = {"durable_name": "r", "ack_policy": "explicit", "max_deliver": 3}
    create = {"stream_name": stream, "config": config}
    await client.api(f"CONSUMER.CREATE.{stream}.r", create)
    with pytest.raises(StreamDrift, match="max_deliver"):
        await subscriber(client, store.codec, [Opened], PositionRecorder()).run()


async def test_a_consumer_of_an_earlier_release_keeps_its_start_and_an_operators_settings(
    client: Client, store: EventStore
) -> None:
    subjects = store.codec.subjects
    stream = subjects.event_stream
    await append(store, Opened(), Deposited())
    config = {
        "name": "r",
        "durable_name": "r",
        "description": "by hand",
        "ack_policy": "explicit",
        "ack_wait": 30_000_000_000,
        "max_deliver": -1,
        "max_ack_pending": 1,
        "filter_subject": subjects.event("account", "opened"),
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": 1,
        "metadata": {"start-after": "1", "team": "x"},
    }
    request = {"stream_name": stream, "config": config, "action": "create"}
    await client.api(f"CONSUMER.CREATE.{stream}.r", request)
    last = await append(store, Deposited(), Opened(), to="a2")
    assert await handled(client, store, [Opened, Deposited], last) == [last]
    found = (await client.api(f"CONSUMER.INFO.{stream}.r"))["config"]
    assert found["description"] == "by hand"
    assert found["metadata"]["start-after"] == "1"
    assert found["metadata"]["team"] == "x"
