"""Timers of a running application whose clock a test moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eventstore import Application
from eventstore.config import Settings
from eventstore.errors import CommandTimeout
from eventstore.testing import ManualClock
from eventstore.timers.testing import ManualTimers
from tests.conftest import settings_for
from tests.integration.commanding import Add, Sign, Signed, counter

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
