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

_CHUNK = 64  # items that change the thread together, unless the generator waits before
_AHEAD = 192
"""Items for the other thread at which the generator stops; a chunk more may be read ahead."""


class _Buffer(Generic[T]):
    """What has been read, for the thread that iterates; the reader waits while it is full.

    Threads that change with each item take longer than reading it. So what is read without waiting,
    such as the events of a page, is handed over together.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.is_ended = False
        self.error: BaseException | None = None
        self._chunk: list[T] = []  # of the loop's thread
        self._items: deque[T] = deque()
        self._has_room = asyncio.Event()
        self._is_full = False

    async def fill(self, generate: Callable[[], AsyncGenerator[T, None]]) -> None:
        """Put in all items of a generator, and then its error, if there is one."""
        error: BaseException | None = None
        loop = asyncio.get_running_loop()
        try:
            async with aclosing(generate()) as items:
                async for item in items:
                    if not self._chunk:
                        loop.call_soon(self._hand_over)
                    self._chunk.append(item)
                    if len(self._chunk) == _CHUNK:
                        self._hand_over()
                        if self._is_full:
                            await self._has_room.wait()
        except BaseException as found:
            error = found
            raise
        finally:
            self._hand_over()
            self.end(error)

    def _hand_over(self) -> None:
        with self.changed:
            if not self.is_ended:
                self._items += self._chunk
            self._chunk.clear()
            self._is_full = len(self._items) >= _AHEAD
            if self._is_full:
                self._has_room.clear()
            self.changed.notify()

    def take(self, timeout: float | None) -> tuple[deque[T], Callable[[], object] | None]:
        """All items, none only at the end, and what is to be called in the loop's thread.

        Raises `RequestTimeout` if there are none in time.
        """
        with self.changed:
            is_there = self.changed.wait_for(lambda: self._items or self.is_ended, timeout)
            if not is_there:
                raise RequestTimeout(f"the next item did not come within {timeout:g} s")
            items, self._items = self._items, deque()
            was_full, self._is_full = self._is_full, False
            return items, self._has_room.set if was_full else None

    def end(self, error: BaseException | None) -> None:
        """There will be no more items."""
        with self.changed:
            if not self.is_ended:
                self.is_ended, self.error = True, error
            self.changed.notify_all()


class BlockingIterator(Iterator[T]):
    """Iterates over what an asynchronous generator yields in another thread; a context manager.

    It reads about 256 items ahead. `next` waits for at most the facade's timeout, and then raises
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
        self._taken: deque[T] = deque()
        self._reading = thread.submit(lambda: buffer.fill(generate))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            if not self._taken:
                self._take()
            return self._taken.popleft()
        except IndexError:
            error, self._buffer.error = self._buffer.error, None
        except BaseException:
            self.close()
            raise
        if error is None:
            raise StopIteration
        raise self._thread.closed() if isinstance(error, asyncio.CancelledError) else error

    def _take(self) -> None:
        self._thread.check_thread()
        self._taken, has_room = self._buffer.take(self._timeout)
        if has_room is not None:
            self._thread.soon(has_room)

    def close(self) -> None:
        """End the iteration; what was read ahead is dropped. Does nothing if it has ended."""
        if self._thread.is_forked:
            return
        self._buffer.end(None)
        self._buffer.take(None)
        self._taken = deque()
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
