"""A handler that records what it is recorder."""

from __future__ import annotations

import asyncio

from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event


class PositionRecorder:
    """Records the positions that it handles, up to a last one."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self._more = asyncio.Event()

    async def __call__(self, _event: Event, recorded: RecordedEvent) -> None:
        self.positions.append(recorded.position)
        self._more.set()

    async def until(self, position: int) -> list[int]:
        while position not in self.positions:
            self._more.clear()
            await self._more.wait()
        return self.positions

    async def until_count(self, count: int) -> list[int]:
        while len(self.positions) < count:
            self._more.clear()
            await self._more.wait()
        return self.positions
