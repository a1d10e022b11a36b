"""Where a subscriber starts: nothing up to its start, however late the feed publishes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.config import AuthSettings, Secret
from eventstore.jetstream.consumer import PullConsumer
from eventstore.messages.codec import Codec
from eventstore.projections.feed.feed import Feed
from eventstore.store.store import EventStore
from eventstore.subscribers.consumer import SubscriberConsumer, declare_subscriber
from eventstore.subscribers.subscriber import EventSubscriber
from tests.conftest import StartServer, settings_for
from tests.integration.feeding import declare_feed, deposit, until_fed
from tests.integration.ledger import Deposited, Opened, ledger
from tests.integration.subscribers.position_recorder import PositionRecorder


@pytest.fixture(autouse=True)
async def bound(client: Client, codec: Codec) -> AsyncIterator[None]:
    await declare_feed(client, codec)
    async with asyncio.timeout(30):
        yield


async def registered(client: Client, codec: Codec, name: str, **options: Any) -> None:
    """Start a subscriber, and stop it before anything is published."""
    subscriber = EventSubscriber(client, codec, name, **options).subscribe([], PositionRecorder())
    async with running(subscriber):
        await subscriber.ready.wait()


@pytest.mark.parametrize(
    ("types", "options"),
    [
        ([], {}),
        ([Deposited], {}),
        ([Deposited, Opened], {"ordered": False}),
        ([], {"acknowledge": "before"}),
    ],
)
@pytest.mark.parametrize("start", [1, 10, 12, "new"])
async def test_events_up_to_its_start_that_are_published_later_are_not_handled(
    client: Client, store: EventStore, start: Any, types: list[Any], options: dict[str, Any]
) -> None:
    last = await deposit(store, 10)
    recorder = PositionRecorder()
    subscriber = EventSubscriber(client, store.codec, "r", start=start, **options)
    async with running(subscriber.subscribe(types, recorder)):
        await subscriber.ready.wait()
        async with running(Feed(client, store)):
            last = await deposit(store, 5)
            after = 10 if start == "new" else start
            assert sorted(await recorder.until(last)) == list(range(after + 1, last + 1))
    assert subscriber.handled == last - after


async def test_some_of_them_may_have_been_published_before(
    client: Client, store: EventStore
) -> None:
    async with running(Feed(client, store)):
        await until_fed(client, store.codec, await deposit(store, 4))
    start = await deposit(store, 4)
    recorder = PositionRecorder()
    subscriber = EventSubscriber(client, store.codec, "r", start=start)
    async with running(subscriber.subscribe([], recorder)):
        await subscriber.ready.wait()
        async with running(Feed(client, store)):
            last = await deposit(store, 1)
            assert await recorder.until(last) == [last]


@pytest.mark.parametrize("again", ["all", "new", 2, 9])
@pytest.mark.parametrize("start", [5, "new"])
async def test_a_name_keeps_its_start_when_it_is_restarted(
    client: Client, store: EventStore, start: Any, again: Any
) -> None:
    await deposit(store, 5)
    await registered(client, store.codec, "r", start=start)
    await deposit(store, 5)
    recorder = PositionRecorder()
    subscriber = EventSubscriber(client, store.codec, "r", start=again).subscribe([], recorder)
    async with running(subscriber, Feed(client, store)):
        assert await recorder.until(10) == [6, 7, 8, 9, 10]


async def test_a_redelivered_event_before_the_start_is_left_out_again(
    client: Client, store: EventStore
) -> None:
    subjects = store.codec.subjects
    await deposit(store, 3)
    consumer = SubscriberConsumer("r", frozenset({subjects.filter("event")}), ack_wait=0.3)
    assert (await declare_subscriber(client, subjects, consumer, 3)).start == 3
    async with running(Feed(client, store)):
        await until_fed(client, store.codec, await deposit(store, 1))
    async with PullConsumer(client, subjects.event_stream, "r", buffer=1) as pull:
        (taken,) = await pull.take(1)  # by somebody who then dies
    assert (taken.headers or {})["X-Position"] == "1"
    recorder = PositionRecorder()
    subscriber = EventSubscriber(client, store.codec, "r", ack_wait=0.3).subscribe([], recorder)
    async with running(subscriber):
        assert await recorder.until(4) == [4]


async def test_concurrently_started_processes_share_one_start(
    client: Client, store: EventStore
) -> None:
    await deposit(store, 3)
    recorder = PositionRecorder()
    several = [EventSubscriber(client, store.codec, "r", start="new") for _ in range(4)]
    async with running(*(each.subscribe([], recorder) for each in several)):
        await asyncio.gather(*(each.ready.wait() for each in several))
        async with running(Feed(client, store)):
            last = await deposit(store, 2)
            assert await recorder.until(last) == [4, 5]


async def test_a_user_who_may_not_read_the_logs_end_gets_what_is_published_from_then_on(
    start_server: StartServer, domain_name: str
) -> None:
    codec = ledger(domain_name)
    rights = f'publish: {{ deny: "$JS.API.STREAM.INFO.{codec.subjects.log_stream}" }}'
    users = (
        f"{{ user: ann, password: a }}, {{ user: eve, password: e, permissions: {{ {rights} }} }}"
    )
    server = await start_server(extra_config=f"authorization {{ users: [{users}] }}")

    def of(user: str) -> Any:
        return settings_for(server.url, auth=AuthSettings(user=user, password=Secret(user[0])))

    async with (
        connect(of("ann")) as client,
        connect(of("eve")) as denied,
        EventStore(client, codec) as store,
    ):
        await declare_feed(client, codec)
        async with running(Feed(client, store)):
            await until_fed(client, codec, await deposit(store, 3))
            recorder = PositionRecorder()
            subscriber = EventSubscriber(denied, codec, "r", start="new").subscribe([], recorder)
            async with running(subscriber):
                await subscriber.ready.wait()
                last = await deposit(store, 1)
                assert await recorder.until(last) == [last]
