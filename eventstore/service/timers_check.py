"""The health check of timers: those that should have fired."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from eventstore.client.client import Client
from eventstore.messages.envelope import utc_now
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import counted
from eventstore.service.health import CheckResult
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.timers import Timer, Timers

_MAX_READ = 200


class TimersCheck:
    """Degraded if timers are overdue by more than `max_late` seconds.

    It reads the 200 timers that were set first, at most every `interval` seconds: if the server
    stops firing, some of them are overdue. What is wrong at one look only does not count.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        *,
        max_late: float = 30.0,
        interval: float = 10.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._timers = Timers(client, subjects)
        self._max_late = timedelta(seconds=max_late)
        self._interval = interval
        self._telemetry = telemetry
        self._looked_at = -math.inf
        self._late: Mapping[int, Timer] = {}
        self._overdue: list[Timer] = []

    async def __call__(self) -> CheckResult:
        """Count the timers, and read some; raises `StreamMissing` and `ClientError`."""
        counts = await self._timers.counts()
        if time.monotonic() - self._looked_at >= self._interval:
            await self._look()
        facts = {
            "waiting": counts.waiting,
            "due": counts.due,
            "overdue": len(self._overdue),
        }
        for state in ("waiting", "due", "overdue"):
            self._telemetry.gauge("timers", facts[state], state=state)
        if not self._overdue:
            return CheckResult(facts=facts)
        first = min(self._overdue, key=_due)
        problem = (
            f"{counted(len(self._overdue), 'timer')} overdue, the first is {first.name}, due "
            f"{_due(first).isoformat(timespec='seconds')}"
        )
        return CheckResult(status="degraded", problem=problem, facts=facts)

    async def _look(self) -> None:
        late = await self._late_timers()
        self._overdue = [timer for sequence, timer in late.items() if sequence in self._late]
        self._late, self._looked_at = late, time.monotonic()

    async def _late_timers(self) -> dict[int, Timer]:
        """Those among the first that should have fired, by sequence."""
        before, late = utc_now() - self._max_late, {}
        async with aclosing(self._timers.read()) as waiting, aclosing(_first(waiting)) as first:
            async for timer in first:
                if _due(timer) < before:
                    late[timer.sequence] = timer
        return late


async def _first(timers: AsyncGenerator[Timer, None]) -> AsyncGenerator[Timer, None]:
    count = 0
    async for timer in timers:
        yield timer
        count += 1
        if count == _MAX_READ:
            return


def _due(timer: Timer) -> datetime:
    return timer.due or datetime.max.replace(tzinfo=UTC)
