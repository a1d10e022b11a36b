"""Timers of a running application whose clock a test moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from eventstore import Application, CommandClient, RecordedEvent, Subscriber
from eventstore.audit import TraceCorrelation
from eventstore.config import Settings
from eventstore.errors import CommandTimeout
from eventstore.testing import ManualClock
from eventstore.timers.testing import ManualTimers
from tests.conftest import settings_for
from tests.integration.commanding import Add, Added, Sign, Signed, Take, counter

BOUND = 45.0
HOUR = timedelta(hours=1)


@pytest.fixture
def own(settings: Settings) -> Settings:
    assert settings.nats.subject_prefix is not None
    return settings_for(settings.nats.url[0], settings.nats.subject_prefix)


async def test_timers_are_due_when_the_test_moves_the_clock(own: Settings) -> None:
    clock = ManualClock()
    app = Application("counting", [counter], clock=clock)
    async with (
        asyncio.timeout(BOUND),
        app.running(own, projections=False, queries=False, feed=False) as service,
    ):
        timers = ManualTimers(service.timers, clock)
        start = clock()
        await service.send(Sign(), "c1", after=2 * HOUR)
        await service.schedule("first", Add(), "c1", after=HOUR)
        await service.schedule("last", Add(), "c1", at=start + 3 * HOUR)
        await service.schedule("never", Add(), "c1", after=HOUR)
        assert await service.cancel("never")

        assert await timers.advance(HOUR / 2) == []
        fired = await timers.advance(2 * HOUR)
        assert [timer.type for timer in fired] == ["Add", "Sign"]
        events = [event async for event in service.store.read("counter", "c1")]
        signed = events[-1].data
        assert isinstance(signed, Signed)
        assert signed.time == start + 2 * HOUR
        assert clock() == start + 2.5 * HOUR
        assert [timer.name async for timer in service.timers.read()] == ["last"]
        assert (await service.timers.counts()).waiting == 1

        await service.schedule("now", Add(), "c1", at=start)  # in the past, by this clock
        while len([event async for event in service.store.read("counter", "c1")]) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_timer_that_no_worker_carries_out_is_reported(own: Settings) -> None:
    clock = ManualClock()
    app = Application("counting", [counter], clock=clock)
    async with (
        asyncio.timeout(BOUND),
        app.running(own, projections=False, queries=False, feed=False, worker=False) as service,
    ):
        await service.schedule("bill", Add(), "c1", after=HOUR)
        timers = ManualTimers(service.timers, clock, timeout=0.5)
        with pytest.raises(CommandTimeout, match="is a command worker running"):
            await timers.advance(HOUR)


async def test_the_command_of_a_timer_is_part_of_the_trace(own: Settings, tmp_path: Path) -> None:
    """A handler sets a timer; its command, even if it is rejected, is caused by that event."""
    clock, handled = ManualClock(), asyncio.Event()
    reminder = Subscriber("reminder")

    @reminder.handles
    async def added(event: Added, recorded: RecordedEvent, *, commands: CommandClient) -> None:
        if event.amount == 1:
            name = f"take-{recorded.aggregate_id}"
            await commands.schedule(name, Take(amount=9), recorded.aggregate_id, after=HOUR)
            handled.set()

    app = Application("counting", [counter], subscribers=[reminder], clock=clock)
    settings = own.in_directory(tmp_path)
    async with asyncio.timeout(BOUND), app.running(settings) as service:
        placed = await service.execute(Add(), "c1", actor="ann")
        await handled.wait()
        (fired,) = await ManualTimers(service.timers, clock).advance(HOUR)
        assert service.collector is not None
        await service.collector.wait(BOUND)
        tree = await service.ask(TraceCorrelation(id=str(fired.command_id)))
    entries = [line.entry for line in tree.lines if line.entry is not None]
    names = [(entry.kind, entry.type, entry.causation_id) for entry in entries]
    (event_id,) = placed.event_ids
    assert tree.correlation_id == placed.command_id
    assert names == [
        ("command", "Add", placed.command_id),
        ("event", "Added", placed.command_id),
        ("command", "Take", event_id),
    ]
    assert entries[-1].actor == "ann"
