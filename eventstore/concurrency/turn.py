"""A turn: an item of a lane for work that is done by who put it there, not by the lane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["QueueTurn"]


class QueueTurn:
    """It comes when all that is before it in its lane has ended, and holds up what is behind it."""

    def __init__(self) -> None:
        self._given: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[bool]:
        """Wait for the turn, and have it inside the block; False where it was refused."""
        try:
            yield await self._given
        finally:
            self._over.set()

    async def give(self) -> None:
        """It is its turn; returns when that is over, at once where nobody waits any more."""
        if not self._given.done():
            self._given.set_result(True)
            await self._over.wait()

    def refuse(self) -> None:
        """It will not be its turn."""
        if not self._given.done():
            self._given.set_result(False)
