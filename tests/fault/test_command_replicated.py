"""Commands with outcomes on three replicas, of which a lagging one may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from eventstore.client.client import connect
from eventstore.config import StreamSettings
from eventstore.errors import ClientError
from eventstore.messages.envelope import new_id
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for
from tests.integration.commanding import Add, Added, Line, Take, counting, opened, outcomes_lagging
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]

REPLICATED = StreamSettings(replicas=3, duplicate_window_ms=100)


@pytest.fixture
async def line(cluster: list[EmbeddedServer], domain_name: str) -> AsyncIterator[Line]:
    async with AsyncExitStack() as stack, asyncio.timeout(50):
        settings = settings_for(cluster[0].url, domain_name)
        client = await stack.enter_async_context(connect(settings))
        domain = counting(domain_name)
        line = None
        while line is None:
            with suppress(ClientError):  # until there is a leader
                line = await stack.enter_async_context(opened(client, domain, REPLICATED))
        yield line


async def test_a_rejected_command_sent_again_stays_rejected_while_a_follower_lags(
    line: Line,
) -> None:
    own = new_id()
    async with line.working():
        rejected = await line.commands.execute(Take(amount=5), "c1", command_id=own)
        await line.commands.execute(Add(amount=10), "c1")
        async with outcomes_lagging(line):
            # After the duplicate window: it is a new message, and delivered once.
            headers = {"X-Event-ID": own, "X-Aggregate-ID": "c1"}
            take = line.subjects.command("counter", "take")
            await line.client.request(take, b'{"amount": 5}', headers=headers)
            await line.until_done()

    assert rejected.status == "rejected"
    assert [event.data for event in await line.read("c1")] == [Added(amount=10)]
