"""Timers whose server, leader or worker dies while they are due: none is lost, none fires twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from eventstore.client.client import Client, connect
from eventstore.config import StreamSettings
from eventstore.errors import ClientError
from eventstore.jetstream.api import stream_info
from eventstore.server.embedded import EmbeddedServer
from eventstore.timers import Timers
from tests.conftest import StartServer, settings_for
from tests.fault import LONG
from tests.fault.command_process import POINTS, SHORT_WINDOW, WAIT
from tests.fault.test_command_sigkill import killed_at
from tests.fault.test_leader_changes import leader_of
from tests.integration.commanding import Add, Added, Line, counting, opened, until
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]

TIMERS = 1_000 if LONG else 60
SPREAD = 10.0 if LONG else 1.5
"""Seconds over which the timers are due."""

DEATHS = 5 if LONG else 1


async def set_all(line: Line, prefix: str) -> set[str]:
    """Set timers that are due soon and over some time; returns the ids of their commands."""

    async def set_one(number: int) -> str:
        after = 0.3 + SPREAD * number / TIMERS
        command = Add(amount=1)
        while True:
            with suppress(ClientError):
                scheduled = await line.commands.schedule(
                    f"{prefix}-{number}", command, f"{prefix}-{number % 7}", after=after
                )
                assert scheduled.command_id is not None
                return scheduled.command_id

    return set(await asyncio.gather(*map(set_one, range(TIMERS))))


async def assert_each_fired_once(line: Line, ids: set[str]) -> None:
    """Wait until as many events are recorded as there are timers, and none is left."""

    async def is_done() -> bool:
        with suppress(ClientError):
            counts = await Timers(line.client, line.subjects).counts()
            return (counts.waiting, counts.due, await line.queued()) == (0, 0, 0)
        return False

    await until(is_done, 100.0)
    events = [event async for event in line.store.read_all()]
    assert sorted(event.envelope.identity.causation_id for event in events) == sorted(ids)
    assert await line.parked() == []


@pytest.fixture
async def server(start_server: StartServer) -> EmbeddedServer:
    return await start_server()


async def test_a_server_that_is_killed_while_timers_are_due(
    server: EmbeddedServer, domain_name: str
) -> None:
    async with (
        connect(settings_for(server.url, domain_name)) as client,
        opened(client, counting(domain_name)) as line,
        line.working(ack_wait=WAIT),
    ):
        ids = await set_all(line, "a")
        for _ in range(DEATHS):
            await asyncio.sleep(SPREAD / (DEATHS + 1))  # some are due, and some are not
            server.kill()
            await server.start()
            await client.wait_connected(20)
        await assert_each_fired_once(line, ids)


@pytest.fixture
async def lines(cluster: list[EmbeddedServer], domain_name: str) -> AsyncIterator[list[Line]]:
    """A connection to each server of a cluster, and all that a command needs on it."""
    async with AsyncExitStack() as stack:
        domain, streams = counting(domain_name), StreamSettings(replicas=3)
        opened_lines: list[Line] = []
        for server in cluster:
            settings = settings_for(server.url, domain_name)
            client = await stack.enter_async_context(connect(settings))
            async with asyncio.timeout(60):
                while len(opened_lines) < len(cluster):
                    with suppress(ClientError):  # until there is a leader
                        line = await stack.enter_async_context(opened(client, domain, streams))
                        opened_lines.append(line)
                        break
        yield opened_lines


async def test_a_leader_that_is_killed_while_timers_are_due(
    cluster: list[EmbeddedServer], lines: list[Line]
) -> None:
    stream = lines[0].subjects.timer_stream
    async with AsyncExitStack() as stack:
        for line in lines:
            await stack.enter_async_context(line.working(ack_wait=WAIT))
        ids = await set_all(lines[0], "a")
        for _ in range(DEATHS):
            await asyncio.sleep(SPREAD / (DEATHS + 1))  # some are due, and some are not
            dead = cluster[await leader_of(lines[0].client, stream)]
            dead.kill()
            await dead.start()
        await lines[0].client.wait_connected(20)
        await assert_each_fired_once(lines[0], ids)


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_that_dies_with_the_command_of_a_timer(
    client: Client, domain_name: str, point: str
) -> None:
    async with opened(client, counting(domain_name), SHORT_WINDOW) as line:
        async with line.working(ack_wait=WAIT):
            await line.commands.execute(Add(), "c1")
        await line.commands.schedule("tick", Add(amount=2), "c1", after=0)
        await killed_at(point, line)
        async with line.working(ack_wait=WAIT):
            await line.until_done()
        assert [event.data for event in await line.read("c1")] == [Added(amount=1), Added(amount=2)]
        assert (await stream_info(client, line.subjects.timer_stream)).state.messages == 0
