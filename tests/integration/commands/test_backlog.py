"""Back-pressure: however many commands wait, a worker holds no more of them than its bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventstore.client.client import Client
from eventstore.messages.envelope import new_id
from tests.integration.commanding import Add, GatedStore, Line, counting, opened, until

COMMANDS = 2_000
SAME = 1_000
AGGREGATES = 100
IN_FLIGHT = 16
BOUND = 200
"""Under way and waiting: 64; taken, and on their way from the server, a few buffers of 32 each."""


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def delivered(line: Line) -> int:
    """Commands that the server has handed out and that are not acknowledged."""
    info = await line.client.api(f"CONSUMER.INFO.{line.subjects.command_stream}.worker")
    count: int = info["num_ack_pending"]
    return count


async def send_all(line: Line) -> None:
    numbers = iter(range(COMMANDS))

    async def one_after_another() -> None:
        for number in numbers:
            await line.commands.send(Add(), f"c{number % AGGREGATES}")

    await asyncio.gather(*(one_after_another() for _ in range(256)))


async def test_a_worker_never_holds_more_of_a_backlog_than_its_bound(line: Line) -> None:
    await send_all(line)
    peak = 0
    async with GatedStore(line.client, line.domain.codec) as store:
        gates = [store.close(f"c{number}") for number in range(AGGREGATES)]
        async with line.working(store=store, in_flight=IN_FLIGHT) as worker:
            await store.until_begun(IN_FLIGHT)

            async def is_full() -> bool:
                nonlocal peak  # once the gates are open, the worker may be faster than the server
                peak = max(peak, await delivered(line))
                return peak >= 4 * IN_FLIGHT

            await until(is_full)
            for gate in gates:
                gate.set()
            while await line.queued():
                peak = max(peak, await delivered(line), len(worker._acks._in_flight))
        assert store.max_concurrency == IN_FLIGHT
        assert len(store.begun) == COMMANDS
    assert 4 * IN_FLIGHT <= peak <= BOUND
    assert await line.log_size() == COMMANDS


async def test_a_thousand_commands_with_the_same_id_are_one(line: Line) -> None:
    command_id, headers = new_id(), {"X-Aggregate-ID": "c1"}
    headers["X-Event-ID"] = command_id  # and no Nats-Msg-Id, by which the server would tell
    subject = line.subjects.command("counter", "add")
    for _ in range(SAME):
        await line.client.publish(subject, b'{"amount": 1}', headers=headers)
    await line.client.flush()
    other = await line.commands.send(Add(amount=5), "c2")
    assert await line.queued() == SAME + 1
    async with line.working(in_flight=IN_FLIGHT) as worker:
        await line.until_done()
        assert worker._acks._in_flight == {}
    assert [event.causation_id for event in await line.read("c1")] == [command_id]
    assert [event.causation_id for event in await line.read("c2")] == [other.command_id]
