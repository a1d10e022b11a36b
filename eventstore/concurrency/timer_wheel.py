"""A timer wheel: very many timers, of which few are ever due, for the price of one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_TICK = 0.05


class TimerWheel(Generic[T]):
    """Calls `due` with each item after its delay, and up to 50 ms later.

    Items are not removed: `due` must know which are still wanted.
    """

    def __init__(self, due: Callable[[T], None]) -> None:
        self._due = due
        self._ticks: dict[int, list[T]] = {}
        self._turning: asyncio.TimerHandle | None = None

    def add(self, item: T, delay: float) -> None:
        """Have `due` called with an item after `delay` seconds."""
        loop = asyncio.get_running_loop()
        tick = math.ceil((loop.time() + delay) / _TICK)
        items = self._ticks.get(tick)
        if items is None:
            self._ticks[tick] = [item]
        else:
            items.append(item)
        if self._turning is None:
            self._turning = loop.call_later(_TICK, self._turn, loop)

    def stop(self) -> None:
        """Drop all items."""
        self._ticks.clear()
        if self._turning is not None:
            self._turning.cancel()
            self._turning = None

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time() / _TICK
        over = [tick for tick in self._ticks if tick <= now]
        items = [item for tick in over for item in self._ticks.pop(tick)]
        self._turning = loop.call_later(_TICK, self._turn, loop) if self._ticks else None
        for item in items:
            self._due(item)
