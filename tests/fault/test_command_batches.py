"""Worker processes killed between and in the middle of the steps of a batch of commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventstore.client.client import Client
from eventstore.commands import Outcome
from eventstore.messages.types import Command
from tests.fault.command_process import MIDDLES, POINTS, SHORT_WINDOW, WAIT
from tests.fault.test_command_sigkill import killed_at
from tests.integration.commanding import Add, AddEach, Line, Take, counting, opened, until

BATCH = 24
KINDS: list[tuple[Command, str, int]] = [
    (Add(amount=2), "success", 1),
    (AddEach(amounts=[1, 1]), "success", 2),
    (Take(amount=9), "rejected", 0),
]
"""Commands, and the status and number of events that each ends with."""


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name), SHORT_WINDOW) as line:
        yield line


@pytest.mark.parametrize("point", [*POINTS, *MIDDLES])
async def test_every_command_of_a_batch_is_carried_out_once_wherever_the_worker_dies(
    line: Line, point: str
) -> None:
    executed = [
        asyncio.create_task(line.commands.execute(KINDS[number % 3][0], f"c{number}", timeout=60))
        for number in range(BATCH)
    ]
    await until(lambda: all_queued(line))
    await killed_at(point, line)
    async with line.working(ack_wait=WAIT):
        outcomes = await asyncio.gather(*executed)
        await line.until_done()
    for number, outcome in enumerate(outcomes):
        assert await line.commands.outcome(outcome.command_id) == outcome
        await assert_carried_out_once(line, f"c{number}", outcome, *KINDS[number % 3][1:])
    assert await line.parked() == []


async def all_queued(line: Line) -> bool:
    return await line.queued() == BATCH


async def assert_carried_out_once(
    line: Line, aggregate_id: str, outcome: Outcome, status: str, events: int
) -> None:
    recorded = await line.read(aggregate_id)
    assert [event.version for event in recorded] == list(range(1, events + 1))
    assert outcome.status == status
    assert outcome.event_ids == tuple(event.id for event in recorded)
    assert {event.causation_id for event in recorded} <= {outcome.command_id}
