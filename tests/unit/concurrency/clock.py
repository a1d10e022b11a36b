"""A clock for tests of what waits: time passes only when a test says so."""

from __future__ import annotations

import asyncio


class Clock:
    """Seconds, for whatever takes a clock; `drive` has the running event loop follow it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def drive(self) -> None:
        """Have the running loop's timers go by this clock."""
        asyncio.get_running_loop().time = self  # type: ignore[method-assign]

    async def advance(self, seconds: float) -> None:
        """Let everything run that can, then let time pass, and what that wakes run as well."""
        await settle()
        self.now += seconds
        await settle()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
