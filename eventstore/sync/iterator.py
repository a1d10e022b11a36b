"""Blocking iterators: an asynchronous generator runs ahead in the loop's thread, within bounds."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from eventstore.errors import RequestTimeout
from eventstore.sync.loop_thread import LoopThread

T = TypeVar("T")

_AHEAD = 256
"""Items that are read before they are wanted."""


class _Buffer(Generic[T]):
    """What has been read, for the thread that iterates; the reader waits while it is full."""

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.changed = threading.Condition()
        self.is_ended = False
        self.error: BaseException | None = None
        self.has_room = asyncio.Event()
        self.is_full = False

    async def fill(self, generate: Callable[[], AsyncGenerator[T, None]]) -> None:
        """Put in all items of a generator, and then its error, if there is one."""
        error: BaseException | None = None
        try:
            async with aclosing(generate()) as items:
                async for item in items:
                    if self._add(item):
                        await self.has_room.wait()
        except BaseException as found:
            error = found
            raise
        finally:
            self.end(error)

    def _add(self, item: T) -> bool:
        with self.changed:
            self.items.append(item)
            self.changed.notify()
            self.is_full = len(self.items) >= _AHEAD
            if self.is_full:
                self.has_room.clear()
            return self.is_full

    def end(self, error: BaseException | None) -> None:
        """There will be no more items."""
        with self.changed:
            if not self.is_ended:
                self.is_ended, self.error = True, error
            self.changed.notify_all()


class BlockingIterator(Iterator[T]):
    """Iterates over what an asynchronous generator yields in another thread; a context manager.

    It reads up to 256 items ahead. `next` waits for at most the facade's timeout, and then raises
    `RequestTimeout`; that of a live reading waits for as long as nothing happens. It may be closed
    by any thread, which ends a waiting `next`; Ctrl-C closes it, too. One that is not used up is
    closed when it is collected, or with the facade.
    """

    def __init__(
        self,
        thread: LoopThread[Any],
        generate: Callable[[], AsyncGenerator[T, None]],
        timeout: float | None,
    ) -> None:
        self._thread = thread
        self._timeout = timeout
        buffer = self._buffer = _Buffer[T]()
        self._reading = thread.submit(lambda: buffer.fill(generate))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        buffer = self._buffer
        try:
            with buffer.changed:
                if not buffer.items:
                    self._wait()
                if buffer.items:
                    return self._take()
        except BaseException:
            self.close()
            raise
        if buffer.error is None:
            raise StopIteration
        error, buffer.error = buffer.error, None
        raise self._thread.closed() if isinstance(error, asyncio.CancelledError) else error

    def close(self) -> None:
        """End the iteration; what was read ahead is dropped. Does nothing if it has ended."""
        buffer = self._buffer
        with buffer.changed:
            buffer.items.clear()
        buffer.end(None)
        self._reading.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_reading"):
            self.close()

    def _wait(self) -> None:
        self._thread.check_thread()
        buffer = self._buffer
        is_there = buffer.changed.wait_for(
            lambda: buffer.items or buffer.is_ended, timeout=self._timeout
        )
        if not is_there:
            raise RequestTimeout(f"the next item did not come within {self._timeout:g} s")

    def _take(self) -> T:
        buffer = self._buffer
        item = buffer.items.popleft()
        if buffer.is_full and len(buffer.items) <= _AHEAD // 2:
            buffer.is_full = False
            self._thread.soon(buffer.has_room.set)
        return item
