"""The feed killed, doubled, disconnected and with its server restarted: once, and in order."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.errors import ClientError, ConnectionLost
from eventstore.messages.codec import Codec
from eventstore.projections.feed.feed import Feed
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.conftest import settings_for
from tests.integration.feeding import Watcher, assert_fed, declare_feed, deposit, until_fed
from tests.integration.ledger import ledger
from tests.proxy import TcpProxy

BATCHES = [(1, 500), (40, 40), (500, 1), (500, 500)]
AHEAD = 600
"""More than the largest batch."""


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return ledger(domain_name)


@pytest.fixture
async def store(client: Client, codec: Codec) -> AsyncIterator[EventStore]:
    await declare_feed(client, codec)
    async with EventStore(client, codec) as store:
        yield store


@asynccontextmanager
async def opened(url: str, codec: Codec) -> AsyncIterator[tuple[Client, EventStore]]:
    """A separate client and store, connected to a server or a proxy."""
    async with (
        connect(settings_for(url, codec.domain)) as client,
        EventStore(client, codec) as store,
    ):
        yield client, store


@asynccontextmanager
async def appending(client: Client, store: EventStore) -> AsyncIterator[Watcher]:
    """Append one to sixty events at a time inside the block, and watch what becomes of them.

    Never far ahead of what is published, so that the work does not grow on a slow machine. At the
    end a feed publishes the rest, and all must be as promised.
    """
    sizes = random.Random(5)  # noqa: S311  # no secret
    ended = asyncio.Event()

    async def append() -> int:
        last = 0
        while not ended.is_set():
            size = sizes.choice([1, 1, 2, 5, 60])
            last = await deposit(store, size, f"a{size}-{last // 1_000}")
            await watcher.until(last - AHEAD)
        return last

    async with Watcher(client, store.codec) as watcher, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(append())
        yield watcher
        ended.set()
        async with running(Feed(client, store, standby=0.05)):
            await until_fed(client, store.codec, await task)
    await assert_fed(client, store)


async def test_two_feeds_cancelled_at_any_point_publish_each_event_once_and_in_order(
    client: Client, store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    dice = random.Random(7)  # noqa: S311  # no secret
    async with AsyncExitStack() as stack, asyncio.timeout(50):
        sides = [await stack.enter_async_context(opened(nats_server.url, codec)) for _ in "ab"]
        watcher = await stack.enter_async_context(appending(client, store))
        for _ in range(20):
            feeds = [
                asyncio.create_task(Feed(*side, batch=batch, standby=0.01).run())
                for side, batch in zip(sides, dice.choice(BATCHES), strict=True)
            ]
            await watcher.until(len(watcher.seen) + dice.randrange(1, 200))
            for feed in feeds:
                feed.cancel()
            await asyncio.wait(feeds)
            assert all(feed.cancelled() for feed in feeds)


async def test_processes_killed_at_any_point_publish_each_event_once_and_in_order(
    client: Client, store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    dice = random.Random(11)  # noqa: S311  # no secret
    async with asyncio.timeout(50), appending(client, store) as watcher:
        for _ in range(3):
            processes = await asyncio.gather(*(start_process(nats_server.url, codec) for _ in "ab"))
            await watcher.until(len(watcher.seen) + dice.randrange(1, 500))
            for process in processes:
                process.kill()
                await process.communicate()


async def start_process(url: str, codec: Codec) -> asyncio.subprocess.Process:
    """A started feed in a separate process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fault.feed_process", url, codec.domain),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"feeding\n"
    return process


@pytest.mark.parametrize("events", [1, 200])
async def test_a_lost_acknowledgement_is_resolved_from_the_end_of_the_stream(
    client: Client, store: EventStore, nats_server: EmbeddedServer, codec: Codec, events: int
) -> None:
    async with (
        asyncio.timeout(30),
        TcpProxy(nats_server) as proxy,
        opened(proxy.url, codec) as side,
    ):
        feed = Feed(*side)
        async with running(feed):
            await feed.ready.wait()
            answer = f'"stream":"{codec.subjects.event_stream}"'.encode()
            cut = proxy.cut_after(answer, "to_client", forward=False)
            await deposit(store, events)
            await cut.wait()
            await until_fed(client, codec, await deposit(store, 1))
    await assert_fed(client, store)


async def test_a_late_answer_is_not_needed(
    client: Client, store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    async with (
        asyncio.timeout(30),
        TcpProxy(nats_server) as proxy,
        opened(proxy.url, codec) as side,
        Watcher(client, codec) as watcher,
    ):
        await deposit(store, 31)  # one page of the log, too few for a batch: sent one by one
        async with running(Feed(*side, timeout=0.2)):
            await watcher.until(10)
            proxy.hold()
            await proxy.until_held(b"stream_msg_get_response")  # asked after the time was over
            proxy.release()
            await until_fed(client, codec, 31)
    await assert_fed(client, store)


async def test_repeatedly_broken_connections_duplicate_and_lose_nothing(
    client: Client, store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    dice = random.Random(3)  # noqa: S311  # no secret
    async with (
        asyncio.timeout(50),
        TcpProxy(nats_server) as proxy,
        opened(proxy.url, codec) as side,
        appending(client, store) as watcher,
        running(Feed(*side, batch=100, timeout=2.0)),
    ):
        for _ in range(15):
            await watcher.until(len(watcher.seen) + dice.randrange(1, 200))
            proxy.cut()


@pytest.mark.parametrize("how", [EmbeddedServer.restart, "kill"])
async def test_a_server_that_restarts_is_waited_for(
    server: EmbeddedServer, codec: Codec, how: Callable[[EmbeddedServer], Awaitable[None]] | str
) -> None:
    async with asyncio.timeout(50), opened(server.url, codec) as (client, store):
        await declare_feed(client, codec)
        feed = Feed(client, store, batch=50)
        async with running(feed):
            async with Watcher(client, codec) as watcher:
                await deposit(store, 1_000)
                await watcher.until(120)
                if isinstance(how, str):
                    server.kill()
                    await server.start()
                else:
                    await how(server)
            await client.wait_connected(20)
            last = await appended(store)
            await until_fed(client, codec, last)
        await assert_fed(client, store)


async def appended(store: EventStore) -> int:
    """Append one event, as soon as the server accepts it."""
    while True:
        with suppress(ClientError):
            return await deposit(store, 1, "later")


async def test_a_connection_closed_for_good_ends_the_feed(
    client: Client, store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    async with asyncio.timeout(30), opened(nats_server.url, codec) as (other, feeding):
        feed = Feed(other, feeding)
        run = asyncio.create_task(feed.run())
        await feed.ready.wait()
        await other.close()
        await deposit(store, 1)
        with pytest.raises(ConnectionLost):
            await run
