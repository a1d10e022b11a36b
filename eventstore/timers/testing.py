"""Timers in tests of a running application: they are due as the test moves the clock.

clock = ManualClock()
shop = Application("shop", deciders=[order], clock=clock)
async with shop.running(settings) as running:
timers = ManualTimers(running.timers, clock)
await running.execute(PlaceOrder(), "o-1")
await timers.advance(timedelta(minutes=15))
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from eventstore.errors import CommandTimeout, NoTimer
from eventstore.testing.clock import ManualClock
from eventstore.timers.timer import Timer
from eventstore.timers.timers import Timers

__all__ = ["ManualTimers"]

_PAUSE = 0.01


class ManualTimers:
    """The timers of an application whose clock a test moves; `timeout` is seconds for each.

    They go through the server and the command worker as always; only when is up to the test.
    """

    def __init__(self, timers: Timers, clock: ManualClock, *, timeout: float = 10.0) -> None:
        self._timers = timers
        self._clock = clock
        self._timeout = timeout

    async def advance(self, by: timedelta) -> list[Timer]:
        """Move the clock forward; returns the timers that were due, in the order of their times.

        At each one's time its command is carried out before the clock goes on, so that a timer
        which that sets is due in its turn. What subscribers do afterwards is not waited for, and
        recurring timers are not due (see `Timers.fire`). Raises `CommandTimeout` if no worker
        carries a command out.
        """
        end = self._clock() + by
        fired = []
        while (timer := await self._next(end)) is not None:
            self._move(timer.due or end)
            await self._fire(timer)
            fired.append(timer)
        self._move(end)
        return fired

    async def _next(self, end: datetime) -> Timer | None:
        waiting = [each async for each in self._timers.read() if each.due and each.due <= end]
        return min(waiting, key=lambda each: (each.due, each.sequence), default=None)

    def _move(self, to: datetime) -> None:
        self._clock.advance(max(to - self._clock(), timedelta(0)))

    async def _fire(self, timer: Timer) -> None:
        try:
            await self._timers.fire(timer.name)
            async with asyncio.timeout(self._timeout):
                while await self._is_unfinished(timer):  # noqa: ASYNC110  # only the server knows
                    await asyncio.sleep(_PAUSE)
        except NoTimer:
            return  # another one has fired or cancelled it
        except TimeoutError:
            raise CommandTimeout(timer.command_id or timer.name, self._timeout) from None

    async def _is_unfinished(self, timer: Timer) -> bool:
        return await self._is_waiting(timer) or (await self._timers.counts()).due > 0

    async def _is_waiting(self, timer: Timer) -> bool:
        try:
            now = await self._timers.get(timer.name)
        except NoTimer:
            return False
        return now.command_id == timer.command_id
