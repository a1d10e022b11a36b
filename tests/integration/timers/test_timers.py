"""Timers: commands for later, which are replaced, cancelled, and due once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from eventstore.client.client import Client
from eventstore.errors import NoTimer
from eventstore.timers import Timer, Timers
from tests.integration.commanding import Add, Added, Line, Take, counting, opened, until

LATER = timedelta(hours=1)
SOON = 0.05


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def total(line: Line, aggregate_id: str = "c1") -> int:
    events = [event.data for event in await line.read(aggregate_id)]
    return sum(event.amount for event in events if isinstance(event, Added))


async def until_recorded(line: Line, count: int, aggregate_id: str = "c1") -> None:
    async def is_recorded() -> bool:
        return len(await line.read(aggregate_id)) >= count

    await until(is_recorded)


async def waiting(line: Line) -> list[Timer]:
    return [timer async for timer in Timers(line.client, line.subjects).read()]


async def test_a_command_for_later_is_carried_out_then(line: Line) -> None:
    async with line.working():
        sent = await line.commands.send(Add(amount=3), "c1", after=SOON)
        assert [timer.name for timer in await waiting(line)] == [sent.command_id]
        await until_recorded(line, 1)
    (event,) = await line.read("c1")
    assert event.envelope.identity.causation_id == sent.command_id
    assert event.envelope.identity.correlation_id == sent.command_id
    assert sent.due is not None
    assert event.time >= sent.due
    assert await waiting(line) == []


async def test_a_command_for_later_is_not_carried_out_before(line: Line) -> None:
    async with line.working():
        sent = await line.commands.send(Add(), "c1", after=LATER)
        await line.commands.execute(Add(amount=5), "c1")
        assert await total(line) == 5
        assert await line.commands.cancel(sent.command_id)
    assert await waiting(line) == []


async def test_a_timer_set_again_replaces_the_earlier_one_whatever_its_command(line: Line) -> None:
    await line.commands.schedule("bill", Add(amount=7), "c1", after=LATER)
    second = await line.commands.schedule("bill", Take(amount=0), "c1", after=2 * LATER)
    (timer,) = await waiting(line)
    assert (timer.type, timer.command_id) == ("Take", second.command_id)
    assert timer.due == second.at


async def test_a_cancelled_timer_is_gone(line: Line) -> None:
    await line.commands.schedule("bill", Add(), "c1", after=LATER)
    assert await line.commands.cancel("bill")
    assert not await line.commands.cancel("bill")
    with pytest.raises(NoTimer, match="no timer bill is waiting"):
        await Timers(line.client, line.subjects).get("bill")
