"""The feed on three replicas whose leaders change and die: each event once, and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.config import StreamSettings
from eventstore.errors import ClientError
from eventstore.messages.codec import Codec
from eventstore.messages.headers import position_of
from eventstore.projections.feed.feed import Feed
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.conftest import settings_for
from tests.integration.feeding import Watcher, declare_feed, deposit, last_sequence, public
from tests.integration.ledger import ledger
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return ledger(domain_name)


@pytest.fixture
async def sides(
    cluster: list[EmbeddedServer],
    codec: Codec,
) -> AsyncIterator[list[tuple[Client, EventStore]]]:
    """A client and a store for each server."""
    async with AsyncExitStack() as stack, asyncio.timeout(50):
        opened = []
        for server in cluster:
            settings = settings_for(server.url, codec.domain)
            client = await stack.enter_async_context(connect(settings))
            store = await stack.enter_async_context(EventStore(client, codec))
            opened.append((client, store))
        await declared(opened[0][0], codec)
        yield opened


async def declared(client: Client, codec: Codec) -> None:
    """Declare the streams, as soon as the cluster has a leader."""
    while True:
        with suppress(ClientError):
            return await declare_feed(client, codec, StreamSettings(replicas=3))


async def test_changing_leaders_duplicate_and_lose_nothing(
    sides: list[tuple[Client, EventStore]], codec: Codec
) -> None:
    client, store = sides[0]
    feeds = [
        Feed(*side, batch=batch, timeout=1.0, standby=0.05)
        for side, batch in zip(sides, [1, 50, 500], strict=True)
    ]
    last = 0
    async with running(*feeds), Watcher(client, codec) as watcher:
        for size in [1, 40, 7, 100, 3]:
            before = len(watcher.seen)
            for number in range(10):
                last = await deposit(store, size, f"a{number}")
            await watcher.until(before + 5)
            with suppress(ClientError):
                await client.api(f"STREAM.LEADER.STEPDOWN.{codec.subjects.event_stream}")
        await until_stored(client, codec, last)
    await assert_once_in_order(client, codec, last)


async def test_a_dying_leader_duplicates_and_loses_nothing(
    cluster: list[EmbeddedServer],
    sides: list[tuple[Client, EventStore]],
    codec: Codec,
) -> None:
    info = await sides[0][0].api(f"STREAM.INFO.{codec.subjects.event_stream}")
    leader = int(info["cluster"]["leader"].removeprefix("n"))
    client, store = sides[leader - 1]
    async with running(*(Feed(*side, batch=100, timeout=1.0, standby=0.05) for side in sides)):
        async with Watcher(client, codec) as watcher:
            last = await deposit(store, 800)
            await watcher.until(150)
            cluster[leader].kill()
            last = await deposited(store)
            await until_stored(client, codec, last)
        await cluster[leader].start()
    await assert_once_in_order(client, codec, last)


async def assert_once_in_order(client: Client, codec: Codec, last: int) -> None:
    """Compares with the expected positions: a read of the log may lag on a replica."""
    found = [position_of(each.headers) for each in await public(client, codec)]
    assert found == list(range(1, last + 1))


async def until_stored(client: Client, codec: Codec, count: int) -> None:
    """Return when the event stream's leader, whichever that is, has so many events."""
    while True:
        with suppress(ClientError):
            if await last_sequence(client, codec) >= count:
                return


async def deposited(store: EventStore) -> int:
    """Append one event, as soon as the log has a leader."""
    while True:
        with suppress(ClientError):
            return await deposit(store, 1, "later")
