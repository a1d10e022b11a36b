"""Keyed work in batches: as in a keyed queue, with what has come for several keys run together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Generic, TypeVar

from eventstore.concurrency.batching import run_batch
from eventstore.concurrency.resource import Resource

T = TypeVar("T")

_MAX_BATCH = 64
_MAX_OPEN = 2  # while one waits for its answers, the next is computed; a third gains nothing


class KeyedBatches(Resource, Generic[T]):
    """Runs `work` for each item, in order within a key, in batches of different keys.

    An async context manager, and used as a `KeyedQueue`. A batch is what has come while earlier
    ones were under way: a single item if that is little. What `work` may await, and when it leaves
    its batch and holds up only its own key, is described in `eventstore.concurrency.batching`.
    """

    def __init__(
        self,
        work: Callable[[T], Coroutine[Any, Any, None]],
        *,
        max_concurrency: int,
        max_pending: int,
    ) -> None:
        self._work = work
        self._free = max_concurrency
        self._max_pending = max_pending
        self._pending = 0
        # Lists, because nearly all have one item, and a deque takes ten times as much memory.
        self._queues: dict[Hashable, list[T]] = {}
        self._ready: deque[Hashable] = deque()  # keys with items and none in progress
        self._open = 0
        self._is_due = False
        self._is_over = False
        self._ends = asyncio.Event()
        self._tasks = asyncio.TaskGroup()

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._tasks)
        stack.push_async_exit(self._finish)

    async def put(self, key: Hashable, item: T) -> None:
        """Queue an item after those of its key; waits while the queue is full."""
        while self._pending >= self._max_pending:
            await self._next_end()
        self._pending += 1
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = [item]
            self._ready.append(key)
            self._begin_soon()
        else:
            queue.append(item)

    def clear(self) -> list[T]:
        """Remove and return the items that have not begun, in order within each key."""
        removed = [item for queue in self._queues.values() for item in queue]
        for queue in self._queues.values():
            queue.clear()
        for key in self._ready:
            del self._queues[key]
        self._ready.clear()
        self._pending -= len(removed)
        self._ends.set()
        return removed

    async def _next_end(self) -> None:
        """Wait until an item has ended, or was removed."""
        self._ends.clear()
        await self._ends.wait()

    async def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for all items; if the block failed, begin none any more."""
        if kind is None:
            while self._queues:
                await self._next_end()
        self._is_over = True

    def _begin_soon(self) -> None:
        """Begin a batch when the producer waits, so that it takes all that has come."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        while self._ready and self._free and self._open < _MAX_OPEN and not self._is_over:
            count = min(len(self._ready), self._free, _MAX_BATCH)
            keys = [self._ready.popleft() for _ in range(count)]
            self._free -= count
            self._open += 1
            self._tasks.create_task(self._run([(key, self._queues[key].pop(0)) for key in keys]))

    async def _run(self, items: list[tuple[Hashable, T]]) -> None:
        works = [(self._work(item), partial(self._ended, key)) for key, item in items]
        try:
            await run_batch(works, self._tasks)
        except BaseException:
            self._is_over = True
            raise
        self._open -= 1
        self._begin_soon()

    def _ended(self, key: Hashable) -> None:
        """An item has ended: the next one of its key may begin."""
        self._free += 1
        self._pending -= 1
        if self._queues[key]:
            self._ready.append(key)
        else:
            del self._queues[key]
        self._ends.set()
        self._begin_soon()
