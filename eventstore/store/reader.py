"""Reads the log in order: from a position, in pages of events, and then optionally live."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from eventstore.client.client import Client
from eventstore.errors import (
    CorruptLog,
    UnreadableEvent,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import Keys
from eventstore.messages.events import RecordedEvent, UnreadEvent
from eventstore.store.aggregate_reading import read_stored_event
from eventstore.store.batches import BatchCheck
from eventstore.store.chain_links import Link, link_after
from eventstore.store.foreign import MAX_HEADS, ForeignMessage, LogFindings, Trails, damaged
from eventstore.store.high_water_mark import HighWaterMark
from eventstore.store.keyring import Keyring
from eventstore.store.log import StoredLog, StoredPage
from eventstore.store.log_mark import LogMark, check_mark
from eventstore.store.tail import Page as Page
from eventstore.store.tail import Tails


class PageDecoding:
    """Decodes pages of stored messages to pages of events, and verifies them.

    They are all messages from a position on, or else not `whole`.
    """

    def __init__(
        self,
        codec: Codec,
        position: int,
        trails: Trails,
        findings: LogFindings,
        *,
        skip_unknown: bool,
        unread: bool,
        whole: bool = True,
    ) -> None:
        self.position = position
        self.problem: CorruptLog | None = None
        self._codec = codec
        self._trails = trails
        self._findings = findings
        self._skip_unknown = skip_unknown
        self._wants_unread = unread
        self._batches = BatchCheck() if whole else None
        self._begin()

    def _begin(self) -> None:
        self._events: list[RecordedEvent] = []
        self._unread: list[UnreadEvent] = []
        self._foreign: list[ForeignMessage] = []
        self._pending = 0
        self._last: StoredMessage | None = None

    def add(self, stored: StoredPage, keys: Keys) -> None:
        """Add the events up to the first with a `problem`."""
        left = len(stored.messages)
        try:
            for message in stored.messages:
                self._add(message, keys)
                self.position, self._last = message.sequence, message
                left -= 1
        except CorruptLog as error:
            self.problem = error
        self._pending = stored.pending + left

    def page(self) -> Page:
        """The events that were added since the last page."""
        mark = None if self._last is None else LogMark.of(self._last)
        page = Page(self._events, self.position, self._pending, self._unread, self._foreign, mark)
        self._begin()
        return page

    def _add(self, message: StoredMessage, keys: Keys) -> None:
        found = self._read(message, keys)
        is_foreign = isinstance(found, ForeignMessage)
        if self._batches is not None:
            self._batches.see(message.headers, message.sequence, foreign=is_foreign)
        if isinstance(found, list):
            self._events += found
        elif isinstance(found, UnreadEvent):
            self._add_unread(found, message.subject)
        else:
            self._foreign.append(found)

    def _read(
        self, message: StoredMessage, keys: Keys
    ) -> list[RecordedEvent] | UnreadEvent | ForeignMessage:
        head = self._trails.head_of(message.subject)
        link = link_after(head, message)
        if link is None:
            return self._examine(message, head)
        skip = self._skip_unknown
        try:
            found = read_stored_event(self._codec, message, keys, skip_unknown=skip)
        except UnreadableEvent as error:
            return self._skip(message, str(error.cause))
        self._trails.move(message, link)
        return found

    def _examine(self, message: StoredMessage, head: Link) -> UnreadEvent | ForeignMessage:
        followed = self._trails.follow(message)
        if followed.confirmed is None:
            problem = followed.problem
            return self._skip(message, "" if problem is None else problem.text)
        return self._codec.unread(
            message.subject,
            message.headers,
            message.payload,
            message.sequence,
            damaged(head, followed.confirmed),
            message.time,
        )

    def _skip(self, message: StoredMessage, reason: str) -> ForeignMessage:
        self._findings.note("foreign", message.sequence, message.subject, reason)
        return ForeignMessage.of(message, reason)

    def _add_unread(self, event: UnreadEvent, subject: str) -> None:
        if event.error is not None and not self._wants_unread:
            raise UnreadableEvent(event.position, subject, event.error, event.headers)
        if event.error is not None:
            reason = f"{event.type} {event.id}: {event.error}"
            self._findings.note("unreadable", event.position, subject, reason)
        if self._wants_unread:
            self._unread.append(event)


class EventReader:
    """A reader of the whole log; see `StoredLog`, which it reads, for `retry_timeout`.

    `keyring` has the keys of personal data, which are waited for in the same way. `findings` notes
    foreign messages and unreadable events, `high_water` what was read last.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        keyring: Keyring | None = None,
        findings: LogFindings | None = None,
        high_water: HighWaterMark | None = None,
        retry_timeout: float = 30.0,
        max_heads: int = MAX_HEADS,
    ) -> None:
        self.findings = findings or LogFindings()
        self._high_water = high_water or HighWaterMark(client, codec.subjects.log_stream)
        self._client = client
        self._codec = codec
        self._retry_timeout = retry_timeout
        self._max_heads = max_heads
        self._keyring = keyring or Keyring(client, codec.subjects)
        self._log = StoredLog(client, codec.subjects.log_stream, retry_timeout=retry_timeout)
        self._tails = Tails()
        self._direct = DirectReader(client, codec.subjects.log_stream)

    def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
        unread: bool = False,
        log: str | None = None,
        shared: bool = False,
        mark: LogMark | None = None,
    ) -> AsyncGenerator[Page, None]:
        """The events after a position, at most `max_events` stored ones a page.

        All are of one log: the one whose `identity` is `log`, or else the one found at first; and
        of the history that has `mark`, if that is given.

        Without `live` it ends when it has caught up; with it, it waits for more and never ends
        by itself. Memory is bounded by four pages. Events that were acknowledged before it began
        are included, on a replicated log too. With `unread`, pages include events without data:
        dropped by upcasters, skipped, or unreadable except for their envelope. Foreign messages are
        skipped, and are in `Page.foreign`. If reading begins after the log's beginning, the event
        before the first of each aggregate is trusted if the first follows it. With `shared`, live
        readers that have caught up and want the same are given the same events, read once; each
        still has its own position, and none waits for another.

        All events before one with a problem are yielded first; then it raises `UnreadableEvent`
        without `unread`, `IncompleteBatch`, `LogDiverged` if the log went back, or `CorruptLog` if
        `after` is beyond the end of the log, or if the stream is another log by now: recreated, or
        restored. Raises `StreamMissing`, and a `ClientError` if the server could not be asked for
        too long.
        """
        read = partial(
            self._pages, live=live, max_events=max_events, skip_unknown=skip_unknown, unread=unread
        )
        if not (live and shared):
            return read(after, log, mark)
        return self._shared_pages(read, after, log, max_events, (skip_unknown, unread), mark)

    async def _shared_pages(
        self,
        read: Callable[[int, str | None, LogMark | None], AsyncGenerator[Page, None]],
        after: int,
        log: str | None,
        max_events: int,
        wanted: tuple[bool, bool],
        mark: LogMark | None,
    ) -> AsyncGenerator[Page, None]:
        known = log or await self._retry(live=True).run(self.identity)
        own = (known, max_events, *wanted)

        def read_on(position: int, at: LogMark | None) -> AsyncGenerator[Page, None]:
            return read(position, known, at)

        pages = self._tails.pages(read_on, after, max_events, own, mark)
        async with aclosing(pages):
            async for page in pages:
                yield page

    async def _pages(
        self,
        after: int,
        log: str | None,
        mark: LogMark | None,
        *,
        live: bool,
        max_events: int,
        skip_unknown: bool,
        unread: bool,
    ) -> AsyncGenerator[Page, None]:
        retry = self._retry(live=live)
        stored_pages = self._log.pages(
            after=after, live=live, max_messages=max_events, log=log, mark=mark
        )
        async with aclosing(stored_pages):
            trails = Trails(self._direct, from_start=after == 0, limit=self._max_heads)
            decoding = PageDecoding(
                self._codec,
                after,
                trails,
                self.findings,
                skip_unknown=skip_unknown,
                unread=unread,
            )
            before = after
            async for stored in stored_pages:
                await retry.run(partial(trails.prepare, stored.messages))
                decoding.add(stored, await retry.run(partial(self._keys, stored)))
                if stored.has_next and decoding.problem is None:
                    continue
                page = decoding.page()
                if page.mark is not None:
                    self._high_water.note(page.mark)
                if page.position > before or not stored.messages:
                    yield page
                before = page.position
                if decoding.problem is not None:
                    raise decoding.problem

    def _retry(self, *, live: bool) -> Retry:
        timeout = math.inf if live else self._retry_timeout
        return Retry(self._client, "reading the log", timeout)

    async def _keys(self, stored: StoredPage) -> Keys:
        return await self._keyring.to_open(message.headers for message in stored.messages)

    async def mark_at(self, position: int, *, live: bool = False) -> LogMark | None:
        """What the log has at a position, by its leader; None for nothing."""

        async def read() -> LogMark | None:
            message = await self._direct.at(position, leader=True)
            return None if message is None else LogMark.of(message)

        return await self._retry(live=live).run(read)

    async def check_seen(self, mark: LogMark, seen_by: str, *, live: bool = False) -> None:
        """Raise `LogDiverged` unless the log still has what a mark says, by its leader."""
        check = partial(check_mark, self._client, self._direct, mark, seen_by)
        await self._retry(live=live).run(check)

    async def identity(self) -> str:
        """When the stream was created, and its name; at most 128 characters."""
        return await self._log.identity()
