"""The health and the metrics of timers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.commands import CommandWorker
from eventstore.service.metrics import Metrics
from eventstore.service.timers_check import TimersCheck
from eventstore.timers import Schedule
from eventstore.timers.timer import scheduled
from eventstore.timers.timers import set_timer
from tests.integration.commanding import Add, Line, counting, opened, until

HOUR = timedelta(hours=1)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def test_waiting_and_due_timers_are_counted(line: Line) -> None:
    metrics = Metrics()
    check = TimersCheck(line.client, line.subjects, interval=0, telemetry=metrics)
    await line.commands.schedule("bill", Add(), "c1", after=HOUR)
    await line.commands.schedule("daily", Add(), "c1", cron="@daily")
    await line.commands.schedule("now", Add(), "c1", after=0)

    async def is_due() -> bool:
        return bool((await check()).facts["due"] == 1)

    await until(is_due)
    result = await check()
    assert (result.status, result.facts["waiting"], result.facts["overdue"]) == ("healthy", 2, 0)
    assert b'eventstore_timers{state="waiting"} 2.0' in metrics.render()
    assert b'eventstore_timers{state="due"} 1.0' in metrics.render()


async def test_how_late_timers_were_is_measured(line: Line) -> None:
    metrics = Metrics()
    worker = CommandWorker(line.client, line.domain.codec, line.handler(), telemetry=metrics)
    async with running(worker):
        await line.commands.schedule("bill", Add(), "c1", after=0.1)
        await line.commands.execute(Add(), "c1")

        async def is_measured() -> bool:
            return b'eventstore_timer_late_seconds_count{type="Add"} 1.0' in metrics.render()

        await until(is_measured)
    assert b'eventstore_timer_late_seconds_bucket{le="2.5",type="Add"} 1.0' in metrics.render()


async def test_overdue_timers_degrade_it_from_the_second_look_on(line: Line) -> None:
    """The server holds one whose header says that it should have fired an hour ago."""
    check = TimersCheck(line.client, line.subjects, interval=0)
    headers = Schedule.once(datetime.now(UTC), after=HOUR).headers
    headers["X-Due"] = "2026-01-01T00:00:00.000000Z"
    for name in ("one", "two"):
        draft = scheduled(line.subjects, name, "counter", "add", headers, {}, b"{}", "Add")
        await set_timer(line.client, draft, stream=line.subjects.timer_stream)
    assert (await check()).status == "healthy"
    result = await check()
    assert result.status == "degraded"
    assert result.problem == "2 timers overdue, the first is one, due 2026-01-01T00:00:00+00:00"
    assert result.facts["overdue"] == 2
