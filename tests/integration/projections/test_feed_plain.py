"""Plain subscribers of the public events receive each event once, in order."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from eventstore.application import running
from eventstore.client.client import Client, Msg, connect
from eventstore.config import Settings
from eventstore.messages.codec import Codec
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.lease import FeedLease
from eventstore.projections.feed.position import FeedPosition
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.integration.feeding import Watcher, assert_fed, declare_feed, deposit, until_fed

STANDBY = 0.2


@pytest.fixture(autouse=True)
async def bound(client: Client, codec: Codec) -> AsyncIterator[None]:
    await declare_feed(client, codec)
    async with asyncio.timeout(50):
        yield


@asynccontextmanager
async def another_feed(settings: Settings, codec: Codec, **options: float) -> AsyncIterator[Feed]:
    """A feed of another service, with a connection of its own; stopped at the end of the block."""
    async with connect(settings) as client, EventStore(client, codec) as store:
        feed = Feed(client, store, **{"standby": STANDBY, **options})  # type: ignore[arg-type]
        async with running(feed):
            yield feed


class Flow:
    """Appends a few events at a time, until it is stopped."""

    def __init__(self, store: EventStore) -> None:
        self.last = 0
        self._store = store
        self._dice = random.Random(3)  # noqa: S311  # no secret
        self._ended = asyncio.Event()
        self._more = asyncio.Event()

    async def run(self) -> None:
        while not self._ended.is_set():
            self.last = await deposit(self._store, self._dice.choice([1, 1, 3, 70]))
            self._more.set()
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        self._ended.set()

    async def go_on(self, count: int) -> None:
        until = self.last + count
        while self.last < until:
            self._more.clear()
            await self._more.wait()


@pytest.mark.parametrize("batch", [1000, 1])
async def test_each_event_is_heard_once_however_many_services_start_and_stop_meanwhile(
    client: Client, store: EventStore, settings: Settings, codec: Codec, batch: int
) -> None:
    flow = Flow(store)
    async with Watcher(client, codec) as watcher, AsyncExitStack() as services:
        async with running(flow):
            first = await services.enter_async_context(AsyncExitStack())
            await first.enter_async_context(another_feed(settings, codec, batch=batch))
            for _ in range(3):
                await flow.go_on(100)
                await services.enter_async_context(another_feed(settings, codec, batch=batch))
            await flow.go_on(200)
            await first.aclose()  # one of the others follows it
            await flow.go_on(200)
            await services.enter_async_context(another_feed(settings, codec, batch=batch))
            await flow.go_on(100)
        await until_fed(client, codec, flow.last)
        await client.flush()
        await watcher.until(flow.last)
    assert watcher.seen == list(range(1, flow.last + 1))
    await assert_fed(client, store)


async def test_two_services_that_start_together_on_a_long_log_publish_it_once(
    client: Client, store: EventStore, settings: Settings, codec: Codec
) -> None:
    last = await deposit(store, 900)
    async with (
        Watcher(client, codec) as watcher,
        another_feed(settings, codec) as one,
        another_feed(settings, codec) as two,
    ):
        await until_fed(client, codec, last)
        await watcher.until(last)
    assert watcher.seen == list(range(1, last + 1))
    assert sorted([one.published, two.published]) == [0, last]


async def start_feed(server: EmbeddedServer, codec: Codec) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fault.feed_process", server.url, codec.domain),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"feeding\n"
    return process


async def test_a_killed_feed_is_followed_by_another_and_each_event_heard_once(
    client: Client,
    store: EventStore,
    settings: Settings,
    codec: Codec,
    nats_server: EmbeddedServer,
) -> None:
    async with Watcher(client, codec) as watcher:
        process = await start_feed(nats_server, codec)
        await until_fed(client, codec, await deposit(store, 50))
        async with another_feed(settings, codec) as feed:
            await until_fed(client, codec, await deposit(store, 50))
            assert feed.published == 0
            process.kill()  # while nothing is on its way
            await process.communicate()
            last = await deposit(store, 100)
            await until_fed(client, codec, last)
            await watcher.until(last)
    assert watcher.seen == list(range(1, last + 1))
    assert feed.published == 100


async def test_only_what_a_killed_feed_was_publishing_is_received_twice(
    client: Client,
    store: EventStore,
    settings: Settings,
    codec: Codec,
    nats_server: EmbeddedServer,
) -> None:
    flow = Flow(store)
    process = await start_feed(nats_server, codec)
    await until_fed(client, codec, await deposit(store, 1))
    async with Watcher(client, codec) as watcher, another_feed(settings, codec) as feed:
        async with running(flow):
            await watcher.until(300)
            assert feed.published == 0
            process.kill()
            await process.communicate()
            await flow.go_on(100)
        await until_fed(client, codec, flow.last)
        while flow.last not in watcher.seen:
            await watcher.until(len(watcher.seen) + 1)
    assert feed.published > 0
    heard = Counter(watcher.seen)
    assert sorted(heard) == list(range(2, flow.last + 1))
    again = sorted(position for position, count in heard.items() if count > 1)
    assert len(again) <= 100  # a batch of that process
    assert again == list(range(again[0], again[0] + len(again))) if again else True
    await assert_fed(client, store)


async def test_an_idle_feed_neither_writes_nor_asks_whether_it_holds_the_lease(
    client: Client,
    store: EventStore,
    settings: Settings,
    codec: Codec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventstore.projections.feed.feed._SAVE_INTERVAL", 0.05)
    bucket = codec.subjects.config_bucket
    heard: list[str] = []
    more = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.append(message.subject)
        more.set()

    async with another_feed(settings, codec, standby=0.05):
        last = await deposit(store, 40)
        place = FeedPosition(client, codec.subjects)
        while (saved := await place.saved()) is None or saved.position < last:
            pass
        for subject in (f"$KV.{bucket}.>", f"$JS.API.STREAM.MSG.GET.KV_{bucket}"):
            await client.subscribe(subject, hear)
        await client.flush()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(more.wait(), 0.5)  # ten times as long as the lease
        assert heard == []
        await until_fed(client, codec, await deposit(store, 1))
        await more.wait()


class TestLease:
    """The lease without a feed."""

    @pytest.fixture
    def one(self, client: Client, codec: Codec) -> FeedLease:
        return FeedLease(client, codec.subjects, seconds=STANDBY)

    @pytest.fixture
    def two(self, client: Client, codec: Codec) -> FeedLease:
        return FeedLease(client, codec.subjects, seconds=STANDBY)

    async def test_one_at_a_time_holds_it_until_it_is_released(
        self, one: FeedLease, two: FeedLease
    ) -> None:
        assert await one.held()
        assert not await two.held()
        assert await one.held()
        await one.release()
        assert await two.held()
        assert not await one.held()

    async def test_of_many_concurrent_feeds_one_gets_the_lease(
        self, client: Client, codec: Codec
    ) -> None:
        several = [FeedLease(client, codec.subjects, seconds=STANDBY) for _ in range(8)]
        assert sorted(await asyncio.gather(*(each.held() for each in several))) == [
            *[False] * 7,
            True,
        ]

    async def test_who_takes_it_over_waits_until_the_other_has_seen_that(
        self, one: FeedLease, two: FeedLease
    ) -> None:
        loop = asyncio.get_running_loop()
        assert await one.held()
        assert not await two.held()
        began = loop.time()
        await two.take_over()
        assert await two.held()
        assert loop.time() - began >= STANDBY
        assert not await one.held()

    async def test_a_lease_that_has_changed_since_is_not_taken_over(
        self, one: FeedLease, two: FeedLease, client: Client, codec: Codec
    ) -> None:
        three = FeedLease(client, codec.subjects, seconds=STANDBY)
        assert await one.held()
        assert not await two.held()
        assert not await three.held()
        await two.take_over()
        await three.take_over()
        assert not await three.held()
        assert await two.held()

    async def test_a_lease_is_relied_on_for_half_its_time_without_asking(
        self, one: FeedLease, two: FeedLease
    ) -> None:
        assert await one.held()
        assert not await two.held()
        await two.take_over()
        assert await one.held()  # which is why the other waits
        one.doubt()
        assert not await one.held()

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"{", b'{"holder": 3}'),
            *(b'{"holder": "x", "seconds": 1e12}', b'{"holder": "x", "seconds": -1}'),
        ],
    )
    async def test_what_is_no_record_is_held_by_nobody(
        self, one: FeedLease, client: Client, codec: Codec, content: bytes
    ) -> None:
        await client.request(f"$KV.{codec.subjects.config_bucket}.feed.lease", content)
        assert await one.held()
