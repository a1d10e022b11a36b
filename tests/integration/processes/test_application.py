"""A process as a part of an application, by whose clock its timers are due."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventstore import Application
from eventstore.config import OperationsSettings, Settings
from eventstore.processes.records import Reacted
from eventstore.subscribers.status import Subscribers
from eventstore.testing import ManualClock
from eventstore.timers.testing import ManualTimers
from tests.integration.trading import Note, Noted, Place, fulfilling, orders, stocks


async def test_an_application_runs_its_processes_by_its_own_clock(
    settings: Settings, tmp_path: Path
) -> None:
    clock = ManualClock()
    app = Application("shop", [orders(), stocks()], processes=[fulfilling()], clock=clock)
    running = app.running(settings, directory=tmp_path, projections=False, queries=False)
    async with asyncio.timeout(30), running as shop:
        timers = ManualTimers(shop.timers, clock)
        await shop.execute(Place(article="nothing"), "o-1")
        await shop.execute(Note(text="in 900"), "o-1")
        async for event in shop.store.read_all(live=True):
            if isinstance(event.data, Reacted) and event.data.timers:
                break
        assert await timers.advance(timedelta(minutes=14)) == []
        (due,) = await timers.advance(timedelta(minutes=1))
        assert (due.type, due.aggregate_id) == ("Note", "o-1")
        last = [each async for each in shop.store.read("order", "o-1", leader=True)][-1]
        assert last.data == Noted(text="due")
        assert last.time == clock()
        (status,) = await Subscribers(shop.client, shop.domain.codec.subjects).list()
        assert (status.name, status.state) == ("fulfilment", "running")


@pytest.mark.parametrize(("megabytes", "kept"), [(64, True), (0, False)])
async def test_aggregates_and_processes_share_the_bounds_of_one_cache(
    settings: Settings, tmp_path: Path, megabytes: int, kept: bool
) -> None:
    settings = replace(settings, operations=OperationsSettings(state_cache_mb=megabytes))
    app = Application("shop", [orders(), stocks()], processes=[fulfilling()])
    running = app.running(settings, directory=tmp_path, projections=False, queries=False)
    async with asyncio.timeout(30), running as shop:
        await shop.execute(Place(article="nothing"), "o-1")
        await shop.execute(Note(text="in 900"), "o-1")
        async for event in shop.store.read_all(live=True):
            if isinstance(event.data, Reacted) and event.data.timers:
                break  # what it had reacted with before is cached
        of_all = [shop.states.get(key) for key in (("order", "o-1"), ("fulfilment", "o-1"))]
        assert [state is not None for state in of_all] == [kept, kept]
