"""Worker processes killed at each step of the command pipeline, after the duplicate window."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator

import pytest

from eventstore.client.client import Client
from eventstore.commands import Outcome
from eventstore.messages.envelope import new_id
from tests.conftest import url_of
from tests.fault.command_process import POINTS, SHORT_WINDOW, WAIT
from tests.integration.commanding import Add, AddEach, Line, Take, counting, opened
from tests.integration.forking import ROOT, forker

COMMANDS = {
    "one event": Add(amount=2),
    "two events": AddEach(amounts=[1, 1]),
    "rejected": Take(amount=9),
}
EVENTS = {"one event": 1, "two events": 2, "rejected": 0}
APPENDS = ("before the append", "after the append")
CASES = [
    (point, kind)
    for point, kind in itertools.product(POINTS, COMMANDS)
    if not (kind == "rejected" and point in APPENDS)
]


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name), SHORT_WINDOW) as line:
        async with line.working(ack_wait=WAIT):
            await line.commands.execute(Add(), "c1")
        yield line


async def killed_at(point: str, line: Line, *options: str) -> None:
    """Run a worker process until it dies at a point."""
    words = [url_of(line.client), line.domain.name, point, *options]
    process = await asyncio.to_thread(
        forker().start, "tests.fault.command_process", words, ROOT, os.environ, stdout=1, stderr=2
    )
    try:
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("point", "kind"), CASES)
async def test_one_outcome_and_one_set_of_events_wherever_the_worker_dies(
    line: Line, point: str, kind: str
) -> None:
    command, command_id = COMMANDS[kind], new_id()
    await line.commands.send(command, "c1", command_id=command_id)
    await killed_at(point, line)
    async with line.working(ack_wait=WAIT):
        await line.until_done()
    outcome = await line.commands.outcome(command_id)
    await assert_carried_out_once(line, kind, command_id, outcome)

    again = await sent_again(line, kind, command_id)
    assert again == outcome
    await assert_carried_out_once(line, kind, command_id, again)


async def sent_again(line: Line, kind: str, command_id: str) -> Outcome:
    """Send it again after the duplicate window and after other commands."""
    async with line.working(ack_wait=WAIT):
        await line.commands.execute(Add(amount=10), "c1")
        async with asyncio.timeout(20):
            while (await line.commands.send(COMMANDS[kind], "c1", command_id=command_id)).duplicate:
                pass
        await line.until_done()
    outcome = await line.commands.outcome(command_id)
    assert outcome is not None
    return outcome


async def assert_carried_out_once(
    line: Line, kind: str, command_id: str, outcome: Outcome | None
) -> None:
    own = [event for event in await line.read("c1") if event.causation_id == command_id]
    assert len(own) == EVENTS[kind]
    assert outcome is not None
    assert outcome.status == ("rejected" if kind == "rejected" else "success")
    assert outcome.event_ids == tuple(event.id for event in own)
    assert await line.parked() == []
