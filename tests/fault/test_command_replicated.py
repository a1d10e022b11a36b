"""Commands with outcomes on three replicas, of which a lagging one may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from eventstore.client.client import connect
from eventstore.commands import CommandClient
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


async def test_the_same_id_on_several_connections_is_accepted_from_each(
    line: Line, cluster: list[EmbeddedServer]
) -> None:
    """While it is stored, the server refuses the others (10158)."""
    rounds, soon = 30, 60
    async with AsyncExitStack() as stack:
        senders = [line.commands]
        for server in cluster[1:]:
            settings = settings_for(server.url, line.domain.name)
            client = await stack.enter_async_context(connect(settings))
            senders.append(
                await stack.enter_async_context(CommandClient(client, line.domain.codec))
            )
        for number in range(rounds):
            own, later = new_id(), new_id()
            sent = await asyncio.gather(
                *(each.send(Add(), f"c{number}", command_id=own) for each in senders)
            )
            assert len({each.sequence for each in sent}) == 1
            await asyncio.gather(
                *(each.send(Add(), "t", command_id=later, after=soon) for each in senders)
            )
        async with line.working():
            for number in range(rounds):
                own = new_id()
                outcomes = await asyncio.gather(
                    *(
                        each.execute(Add(), f"e{number}", command_id=own, timeout=20)
                        for each in senders
                    )
                )
                assert {each.version for each in outcomes} == {1}


async def test_commands_wait_for_a_leader(line: Line, cluster: list[EmbeddedServer]) -> None:
    async with line.working():
        await line.commands.execute(Add(), "c1")
        stream = line.subjects.command_stream
        for _ in range(3):
            with suppress(ClientError):
                await line.client.api(f"STREAM.LEADER.STEPDOWN.{stream}")
            assert (await line.commands.execute(Add(), "c1", timeout=20)).status == "success"
            await line.commands.send(Add(), "c1", timeout=20)
