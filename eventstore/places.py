"""Places: how many requests are answered at a time, how many wait for that, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventstore.errors import ServiceBusy

__all__ = ["Place", "Places"]


class Places:
    """At most `at_once` are taken at a time; at most `room` have or want one.

    Who wants one waits for it, in turn, for at most `patience` seconds.
    """

    def __init__(self, at_once: int, *, room: int, patience: float) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._room = room
        self._patience = patience
        self._wanted = 0

    def want(self) -> Place:
        """Make room for one more, to be released by `Place.leave`; raises `ServiceBusy`."""
        if self._wanted >= self._room:
            raise ServiceBusy(f"{self._room:,} requests are under way or wait; ask again later")
        self._wanted += 1
        return Place(self)

    async def take(self) -> None:
        """Wait for a free one; raises `ServiceBusy`."""
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise ServiceBusy(
                f"the request had no turn within {self._patience:g} s; ask again later"
            ) from None

    def give_back(self) -> None:
        """Have it free again."""
        self._free.release()

    def unwant(self) -> None:
        """Make room for another."""
        self._wanted -= 1


class Place:
    """What one request has, or waits for; an async context manager that takes it."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._is_taken = False

    async def __aenter__(self) -> None:
        await self._take()

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    @asynccontextmanager
    async def given_up(self) -> AsyncIterator[None]:
        """Let another have it inside the block, and wait for one after it."""
        self._give_back()
        yield
        await self._take()

    def leave(self) -> None:
        """Want none any more."""
        self._places.unwant()

    async def _take(self) -> None:
        await self._places.take()
        self._is_taken = True

    def _give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._places.give_back()
