"""Pages of the log, and its tail: read once for all readers of a process that have caught up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from contextlib import aclosing, suppress
from itertools import chain
from typing import TypeVar

import msgspec

from eventstore.errors import EventStoreError
from eventstore.messages.events import LogEvent, RecordedEvent, UnreadEvent
from eventstore.store.foreign import ForeignMessage

M = TypeVar("M", RecordedEvent, UnreadEvent, ForeignMessage)

_MAX_KEPT = 2_000
_MAX_KEPT_BYTES = 8 * 1024 * 1024

_MANY = 32
"""So many events in a page mean that more will follow within milliseconds."""

_GATHERING_SECONDS = 0.02
"""How long events are gathered after such a page: each page costs its readers a transaction."""


class Page(msgspec.Struct, frozen=True):
    """Some events in the order of the log; never some parts of one without the others.

    `position` is the last position the page covers, `pending` about how many events are left after
    it (0: caught up). A page may be empty: the log was empty, or all its events were skipped.
    `unread` are the events without data, if they were requested; `foreign` are messages that the
    store did not write.
    """

    events: list[RecordedEvent]
    position: int
    pending: int
    unread: Sequence[UnreadEvent] = ()
    foreign: Sequence[ForeignMessage] = ()

    @property
    def log_events(self) -> Sequence[LogEvent]:
        """The events, including those without data, in the order of the log."""
        if not self.unread:
            return self.events
        return sorted([*self.events, *self.unread], key=lambda event: event.position)


class Tail:
    """The pages at the end of the log, for several readers, of which none delays another.

    The last 2,000 events, or 8 MB of them, are kept for readers that fall behind; one that falls
    further behind has to read by itself. Reading ends with the last reader, and with an error,
    which each reader then meets by itself.
    """

    def __init__(self, source: AsyncGenerator[Page, None], position: int) -> None:
        self.source = source
        self.is_read = True
        self._start = self._end = position
        self._pending = 0
        self._kept: deque[Page] = deque()
        self._size = 0
        self._bytes = 0
        self._readers = 0
        self._grown = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._ended)

    def covers(self, position: int) -> bool:
        """Whether all that follows a position is here, or will be."""
        return self._start <= position and self.is_read

    async def pages(self, after: int, max_events: int) -> AsyncGenerator[Page, None]:
        """What follows a position, in pages of as much as has come; ends where it is not here."""
        self._readers += 1
        try:
            while self.covers(after):
                page = self._page(after, max_events)
                if page is None:
                    await self._grown.wait()
                else:
                    yield page
                    after = page.position
        finally:
            self._readers -= 1
            if not self._readers:
                await self._close()

    async def _read(self) -> None:
        with suppress(EventStoreError):
            async with aclosing(self.source) as pages:
                async for page in pages:
                    self._keep(page)
                    if len(page.events) >= _MANY and not page.pending:
                        await asyncio.sleep(_GATHERING_SECONDS)

    def _keep(self, page: Page) -> None:
        self._kept.append(page)
        self._size += page.position - self._end
        self._bytes += _bytes(page)
        self._end, self._pending = page.position, page.pending
        while self._size > _MAX_KEPT or self._bytes > _MAX_KEPT_BYTES:
            oldest = self._kept.popleft()
            self._size -= oldest.position - self._start
            self._bytes -= _bytes(oldest)
            self._start = oldest.position
        self._notify()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _page(self, after: int, max_events: int) -> Page | None:
        """What has come after a position, as far as it is not too much for a page."""
        several: list[Page] = []
        for page in reversed(self._kept):
            if page.position <= after:
                break
            several.append(page)
        several.reverse()
        while len(several) > 1 and several[-1].position - after > max_events:
            several.pop()
        if not several:
            return None
        last = several[-1].position
        return Page(
            _joined([page.events for page in several], after),
            last,
            self._end - last + self._pending,
            _joined([page.unread for page in several], after),
            _joined([page.foreign for page in several], after),
        )

    def _ended(self, _: object) -> None:
        self.is_read = False
        self._kept.clear()
        self._notify()

    async def _close(self) -> None:
        self.is_read = False
        self._reading.cancel()
        await asyncio.wait([self._reading])


class Tails:
    """The tails of a log that are read now, by the identity of the log and what is wanted of it."""

    def __init__(self) -> None:
        self._tails: dict[Hashable, Tail] = {}

    async def pages(
        self,
        read: Callable[[int], AsyncGenerator[Page, None]],
        after: int,
        max_events: int,
        wanted: Hashable,
    ) -> AsyncGenerator[Page, None]:
        """What `read` reads after a position, until it has caught up, and then what the tail has.

        Readers that want the same share a tail.
        """
        while True:
            source, tail = read(after), None
            try:
                async for page in source:
                    yield page
                    after = page.position
                    if (tail := self._tail(wanted, page, source)) is not None:
                        break
            finally:
                if tail is None or tail.source is not source:
                    await source.aclose()
            if tail is None:
                return
            async with aclosing(tail.pages(after, max_events)) as pages:
                async for page in pages:
                    yield page
                    after = page.position

    def _tail(
        self, wanted: Hashable, page: Page, source: AsyncGenerator[Page, None]
    ) -> Tail | None:
        """The tail with what follows a page; read from `source` if there is none yet."""
        tail = self._tails.get(wanted)
        if tail is not None and tail.is_read:
            return tail if tail.covers(page.position) else None
        if page.pending:
            return None
        tail = self._tails[wanted] = Tail(source, page.position)
        return tail


def _joined(several: Sequence[Sequence[M]], after: int) -> list[M]:
    return [each for some in several for each in some if each.position > after]


def _bytes(page: Page) -> int:
    messages: Iterable[RecordedEvent | UnreadEvent | ForeignMessage]
    messages = chain(page.events, page.unread, page.foreign)
    return sum(len(message.payload) for message in messages)
