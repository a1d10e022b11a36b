"""What has ended leaves nothing behind: on the connection, on the server, or in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.commands.outcome_log import OutcomeLog
from eventstore.errors import CommandTimeout
from eventstore.jetstream.consumer import PullConsumer
from eventstore.jetstream.direct_get import DirectReader
from eventstore.projections.feed.feed import Feed
from eventstore.subscribers.subscriber import EventSubscriber
from tests.integration.commanding import Add, Added, Line, counting, opened


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


def registrations(client: Client) -> dict[str, Any]:
    """What a connection has been asked to do until it is told to stop."""
    return {
        "subscriptions": {each.subject for each in client.nats._subs.values()},
        "on disconnect": set(client._disconnect_callbacks),
        "on reconnect": set(client._reconnect_callbacks),
    }


async def consumers(line: Line, stream: str) -> list[str]:
    names: list[str] = (await line.client.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or []
    return names


async def test_a_whole_service_that_has_ended(client: Client, domain_name: str) -> None:
    before = registrations(client)
    async with opened(client, counting(domain_name)) as line, line.working():
        subscriber = EventSubscriber(client, line.domain.codec, "greeter")

        @subscriber.handles
        async def greet(event: Added, _: Any) -> None:
            """Only to be subscribed."""

        feed = Feed(client, line.store)
        async with running(feed, subscriber), asyncio.timeout(20):
            await subscriber.ready.wait()
            outcome = await line.commands.execute(Add(), "c1")
            while feed.position < outcome.position:
                await client.flush()
        assert registrations(client) != before
    assert registrations(client) == before
    assert await consumers(line, line.subjects.log_stream) == []


@pytest.mark.parametrize("live", [True, False])
async def test_readers_of_the_log_that_have_ended(line: Line, live: bool) -> None:
    await line.store.append("counter", "c1", [Added(amount=1)] * 3)
    before = registrations(line.client)
    async with aclosing(line.store.pages(live=live, max_events=1)) as pages:
        await anext(pages)
        assert registrations(line.client) != before
        assert len(await consumers(line, line.subjects.log_stream)) == 1
    assert registrations(line.client) == before
    assert await consumers(line, line.subjects.log_stream) == []


async def test_a_reader_of_outcomes_that_has_ended(line: Line) -> None:
    async with line.working():
        await line.commands.execute(Add(), "c1")
    before = registrations(line.client)
    reader = OutcomeLog(line.client, line.subjects)
    async with aclosing(reader.pages(0)) as pages:
        await anext(pages)
    assert registrations(line.client) == before
    assert await consumers(line, f"KV_{line.subjects.outcome_bucket}") == []


async def test_direct_readers_and_pulls_that_have_ended(line: Line) -> None:
    before = registrations(line.client)
    stream = line.subjects.log_stream
    async with PullConsumer(line.client, stream, "none", buffer=1):
        assert registrations(line.client) != before
    assert [page async for page in DirectReader(line.client, stream).pages("none")] == []
    assert registrations(line.client) == before
    assert len(line.client._answers) == 0


async def test_commands_that_have_been_answered_or_have_run_out_of_time(line: Line) -> None:
    async with line.working():
        await asyncio.gather(*(line.commands.execute(Add(), f"c{n}") for n in range(5)))
    with pytest.raises(CommandTimeout):
        await line.commands.execute(Add(), "c1", timeout=0.05)
    assert line.commands._waiting == {}
