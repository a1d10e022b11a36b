"""Read-ahead: buffers pages of the log while those before them are being applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from eventstore.concurrency.resource import Resource
from eventstore.store.reader import Page


class ReadAhead(Resource):
    """Buffers the pages of a live reader; an async context manager.

    It reads until `max_events` events are buffered.
    """

    def __init__(self, pages: AsyncGenerator[Page, None], *, max_events: int) -> None:
        self._source = pages
        self._max_events = max_events
        self._pages: list[Page] = []
        self._changed = asyncio.Event()

    async def _enter(self, stack: AsyncExitStack) -> None:
        self._reading = asyncio.create_task(self._read())
        stack.push_async_callback(self._stop)

    async def _stop(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if not self._reading.cancelled():
            self._reading.exception()  # it is for `take` to raise it

    @property
    def count(self) -> int:
        """How many events are buffered."""
        return sum(map(_size, self._pages))

    def buffered(self) -> list[Page]:
        """The buffered pages, which stay in the buffer; may be called from any thread."""
        return self._pages[:]

    async def take(self, max_events: int) -> Page:
        """Buffered pages, joined into one of about `max_events`; waits until there is any.

        Raises what the reader raises, after its last page.
        """
        while not self._pages:
            if self._reading.done():
                self._reading.result()
                raise AssertionError("a live reader has ended by itself")
            await self._change()
        self._changed.set()
        taken = [self._pages.pop(0)]
        count = _size(taken[0])
        while self._pages and count + _size(self._pages[0]) <= max_events:
            taken.append(self._pages.pop(0))
            count += _size(taken[-1])
        events = [event for page in taken for event in page.events]
        unread = [event for page in taken for event in page.unread]
        return Page(events, taken[-1].position, taken[-1].pending, unread)

    async def _read(self) -> None:
        try:
            async with aclosing(self._source) as pages:
                async for page in pages:
                    self._pages.append(page)
                    self._changed.set()
                    while self.count >= self._max_events:
                        await self._change()
        finally:
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _size(page: Page) -> int:
    return len(page.events) + len(page.unread)
