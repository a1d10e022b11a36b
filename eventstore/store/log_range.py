"""Reads parts of the log by direct gets, without a consumer: a page, a range, or backwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from msgspec import Struct

from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.store.batches import is_followed
from eventstore.store.bounds import Bounds
from eventstore.store.foreign import LogFindings, Trails
from eventstore.store.keyring import Keyring
from eventstore.store.log import StoredLog, StoredPage, beyond_end
from eventstore.store.reader import Page, PageDecoding

_ALL = ">"
_MAX_WINDOW = 4096  # positions of one step backwards, of which only some are read
_PAUSES = (0.01, 0.05, 0.1, 0.2, 0.4)
"""Seconds between looks for the rest of an atomic batch, which the leader stores at once."""


class _Filter(Struct, frozen=True):
    """What is read: the messages on a subject, and how unknown types are taken."""

    subject: str = _ALL
    skip_unknown: bool = False
    unread: bool = True

    @property
    def is_whole(self) -> bool:
        return self.subject == _ALL


class LogRange:
    """Reads parts of one log; pages, and what is raised, are as in `EventReader.pages`."""

    def __init__(
        self,
        reader: DirectReader,
        log: StoredLog,
        codec: Codec,
        keyring: Keyring,
        findings: LogFindings,
    ) -> None:
        self._reader = reader
        self._log = log
        self._codec = codec
        self._keyring = keyring
        self._findings = findings

    async def page(
        self, after: int, max_events: int, *, skip_unknown: bool = False, unread: bool = False
    ) -> Page:
        """One page after a position."""
        wanted = _Filter(skip_unknown=skip_unknown, unread=unread)
        trails = self._trails(after)
        decoding = self._decoding(wanted, after, trails)
        stored = await self._stored(wanted, after, max_events)
        page = await self._decoded(stored, decoding, trails)
        if decoding.problem is not None and page.position == after:
            raise decoding.problem
        return page

    async def end(self) -> int:
        """The position of the last message."""
        return await self._log.end()

    async def forwards(
        self, bounds: Bounds, aggregate: str | None, *, skip_unknown: bool
    ) -> AsyncGenerator[Page, None]:
        """The pages from the beginning of a range on; the last one may reach beyond its end."""
        wanted, after = self._filter(aggregate, skip_unknown), bounds.after
        size = bounds.page_size(MAX_PAGE) if wanted.is_whole else MAX_PAGE
        trails = self._trails(after)
        decoding = self._decoding(wanted, after, trails)
        while bounds.until is None or after < bounds.until:
            stored = await self._stored(wanted, after, size)
            yield await self._decoded(stored, decoding, trails)
            if decoding.problem is not None:
                raise decoding.problem
            after = stored.position
            if not stored.pending:
                return

    async def backwards(
        self, bounds: Bounds, aggregate: str | None, *, skip_unknown: bool
    ) -> AsyncGenerator[Page, None]:
        """The pages of a range from its end on, each in the order of the log."""
        wanted = self._filter(aggregate, skip_unknown)
        end = await self.end()
        if bounds.after > end:
            raise beyond_end(bounds.after, self._reader.stream, end)
        high = end if bounds.until is None else min(bounds.until, end)
        size = bounds.page_size(MAX_PAGE)
        while high > bounds.after:
            low = max(bounds.after, high - size)
            stored = await self._window(wanted, low, high)
            trails = self._trails(low)
            decoding = self._decoding(wanted, low, trails)
            page = await self._decoded(stored, decoding, trails)
            if decoding.problem is not None:
                raise decoding.problem
            yield page
            high, size = low, min(2 * size, MAX_PAGE if wanted.is_whole else _MAX_WINDOW)

    def _filter(self, aggregate: str | None, skip_unknown: bool) -> _Filter:
        subject = _ALL if aggregate is None else f"{self._codec.domain}.log.{aggregate}.*"
        return _Filter(subject, skip_unknown)

    def _trails(self, after: int) -> Trails:
        return Trails(self._reader, from_start=after == 0)

    async def _window(self, wanted: _Filter, low: int, high: int) -> StoredPage:
        """The messages after a position up to another."""
        messages: list[StoredMessage] = []
        after = low
        while after < high:
            stored = await self._stored(wanted, after, min(high - after, MAX_PAGE))
            messages += [each for each in stored.messages if each.sequence <= high]
            after = stored.position
            if not stored.pending:
                break
        return StoredPage(messages, high, 0)

    async def _stored(self, wanted: _Filter, after: int, count: int) -> StoredPage:
        """Messages after a position; none are left only if the leader has no more, either."""
        messages, pending = await self._reader.page(wanted.subject, after, count)
        if not pending and len(messages) < count:
            await self._add_newer(wanted, after, messages, count)
        position = messages[-1].sequence if messages else after
        if not messages and after > (end := await self.end()):
            raise beyond_end(after, self._reader.stream, end)
        return StoredPage(messages, position, pending or int(len(messages) == count))

    async def _add_newer(
        self, wanted: _Filter, after: int, messages: list[StoredMessage], count: int
    ) -> None:
        """Add what a lagging follower did not have, and the rest of a batch being stored."""
        pauses = iter(_PAUSES)
        while len(messages) < count:
            last = messages[-1].sequence if messages else after
            following = await self._reader.leader_next(wanted.subject, last)
            if following is not None:
                messages.append(following)
                continue
            is_open = wanted.is_whole and messages and is_followed(messages[-1].headers)
            pause = next(pauses, None) if is_open else None
            if pause is None:
                return
            await asyncio.sleep(pause)

    def _decoding(self, wanted: _Filter, after: int, trails: Trails) -> PageDecoding:
        return PageDecoding(
            self._codec,
            after,
            trails,
            self._findings,
            skip_unknown=wanted.skip_unknown,
            unread=wanted.unread,
            whole=wanted.is_whole,
        )

    async def _decoded(self, stored: StoredPage, decoding: PageDecoding, trails: Trails) -> Page:
        await trails.prepare(stored.messages)
        keys = await self._keyring.to_open(message.headers for message in stored.messages)
        decoding.add(stored, keys)
        return decoding.page()
