"""Lanes: work done one item after another for each key, and on many keys at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Generic, TypeVar

from eventstore.concurrency.cancellation import only_own_cancellation

__all__ = ["KeyedQueue"]

T = TypeVar("T")


class KeyedQueue(Generic[T]):
    """Has `work` awaited for each item, in order within a key; an async context manager.

    At most `max_concurrency` items are worked on at a time, and at most `max_pending` are held,
    those that wait included: so a key with a long queue does not hold up the others until that room
    is full. Leaving waits for all that is held, or cancels it where the block failed; a failure of
    `work` ends the block, and is raised within an `ExceptionGroup`. So does a cancellation that
    comes out of what it awaited, as a `RuntimeError`.
    """

    def __init__(
        self, work: Callable[[T], Awaitable[None]], *, max_concurrency: int, max_pending: int
    ) -> None:
        self._work = work
        self._free = asyncio.Semaphore(max_concurrency)
        self._room = asyncio.Semaphore(max_pending)
        self._waiting: dict[Hashable, deque[T]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> KeyedQueue[T]:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)

    async def put(self, key: Hashable, item: T) -> None:
        """Have an item worked on after those of its key; waits while there is no room."""
        await self._room.acquire()
        lane = self._waiting.get(key)
        if lane is None:
            self._waiting[key] = deque([item])
            self._tasks.create_task(self._run(key))
        else:
            lane.append(item)

    def clear(self) -> list[T]:
        """Take out what has not begun, in order within each key."""
        left = [item for lane in self._waiting.values() for item in lane]
        for lane in self._waiting.values():
            lane.clear()
        for _ in left:
            self._room.release()
        return left

    async def _run(self, key: Hashable) -> None:
        lane = self._waiting[key]
        try:
            while lane:
                async with self._free:
                    if lane:  # else taken out while this waited for its turn
                        await self._begin(lane.popleft())
        finally:
            del self._waiting[key]

    async def _begin(self, item: T) -> None:
        try:
            with only_own_cancellation():
                await self._work(item)
        finally:
            self._room.release()
