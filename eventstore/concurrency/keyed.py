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
    """Locks by key; each exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}  # for each that is held

    def held(self, key: str) -> HeldLock:
        """Hold the lock of a key in an `async with` block; waits while another holds it."""
        return HeldLock(self._waiting, key)


class HeldLock:
    """Holds one of the `KeyedLocks` inside a block.

    A class, because it is entered for every command: a generator takes several times as long.
    """

    __slots__ = ("_key", "_waiting")

    def __init__(self, waiting: dict[str, list[asyncio.Future[None]]], key: str) -> None:
        self._waiting = waiting
        self._key = key

    async def __aenter__(self) -> None:
        """Wait for the lock."""
        waiting = self._waiting.get(self._key)
        if waiting is None:
            self._waiting[self._key] = []
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await own_task()
            await turn
        except asyncio.CancelledError:
            if not turn.cancel():  # it has come already
                self._pass_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Pass the lock on."""
        self._pass_on()

    def _pass_on(self) -> None:
        waiting = self._waiting[self._key]
        while waiting:
            turn = waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[self._key]
