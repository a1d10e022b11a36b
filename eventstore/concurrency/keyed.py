"""Keyed work: in order or one at a time within a key, concurrent across keys."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Generic, TypeVar

from eventstore.concurrency.batching import own_task
from eventstore.concurrency.failures import only_own_cancellation
from eventstore.concurrency.resource import Resource

T = TypeVar("T")


class KeyedQueue(Resource, Generic[T]):
    """Awaits `work` for each item, in order within a key; an async context manager.

    At most `max_concurrency` items are processed at a time, and at most `max_pending` are in the
    queue, including those: so a key with many items does not block the others until the queue is
    full. Leaving waits for all items, or cancels them if the block failed. A failure of `work`
    ends the block and is raised within an `ExceptionGroup`; a cancellation that comes out of what
    it awaited counts as one, as a `RuntimeError`.
    """

    def __init__(
        self, work: Callable[[T], Awaitable[None]], *, max_concurrency: int, max_pending: int
    ) -> None:
        self._work = work
        self._free = asyncio.Semaphore(max_concurrency)
        self._pending = asyncio.Semaphore(max_pending)
        self._queues: dict[Hashable, deque[T]] = {}
        self._tasks = asyncio.TaskGroup()

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._tasks)

    async def put(self, key: Hashable, item: T) -> None:
        """Queue an item after those of its key; waits while the queue is full."""
        await self._pending.acquire()
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque([item])
            self._tasks.create_task(self._run(key))
        else:
            queue.append(item)

    def clear(self) -> list[T]:
        """Remove and return the items that have not begun, in order within each key."""
        removed = [item for queue in self._queues.values() for item in queue]
        for queue in self._queues.values():
            queue.clear()
        for _ in removed:
            self._pending.release()
        return removed

    async def _run(self, key: Hashable) -> None:
        queue = self._queues[key]
        try:
            while queue:
                async with self._free:
                    if queue:  # else cleared meanwhile
                        await self._begin(queue.popleft())
        finally:
            del self._queues[key]

    async def _begin(self, item: T) -> None:
        try:
            with only_own_cancellation():
                await self._work(item)
        finally:
            self._pending.release()


class QueueTurn:
    """A queue item for work that its producer does itself when its turn comes.

    The turn begins when the items before it have ended; those after it wait until it is over.
    """

    def __init__(self) -> None:
        self._given: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[bool]:
        """Wait for the turn, which lasts as long as the block; False if it was refused."""
        try:
            yield await self._given
        finally:
            self._over.set()

    async def give(self) -> None:
        """Begin the turn, and return when it is over; immediately if nobody waits for it."""
        if not self._given.done():
            self._given.set_result(True)
            await self._over.wait()

    def refuse(self) -> None:
        """There will be no turn."""
        if not self._given.done():
            self._given.set_result(False)


class KeyedLocks:
    """Locks by key; each exists only while somebody holds it or waits for it.

    Not a context manager, because one is taken for every command, and nearly always free.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}  # for each that is held

    def take(self, key: str) -> bool:
        """Take the lock of a key; False, with nothing taken, if another holds it."""
        if key in self._waiting:
            return False
        self._waiting[key] = []
        return True

    async def turn(self, key: str) -> None:
        """Take the lock of a key that another holds, after those who wait for it already."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(turn)
        try:
            await own_task()
            await turn
        except asyncio.CancelledError:
            if not turn.cancel():  # it has come already
                self.release(key)
            raise

    def release(self, key: str) -> None:
        """Pass on a lock that was taken."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
