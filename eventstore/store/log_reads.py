"""What the store reads of the whole log: events in order or backwards, a page, and its end."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from eventstore.errors import (
    InvalidMessage,
    InvalidRange,
    UnknownType,
    UnreadableEvent,
    UnsupportedSchema,
)
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.messages.codec import Codec
from eventstore.messages.events import LogEvent, RecordedEvent
from eventstore.messages.subjects import check_name
from eventstore.messages.types import Event
from eventstore.store.bounds import Bounds
from eventstore.store.foreign import ForeignMessage
from eventstore.store.keyring import Keyring
from eventstore.store.log_mark import LogMark
from eventstore.store.log_range import LogRange
from eventstore.store.reader import EventReader, Page

Types = Collection[type[Event] | str]
"""Types of events, by their classes or their names."""


class LogReads:
    """The part of the store that reads the whole log."""

    codec: Codec
    keyring: Keyring
    _direct: DirectReader
    _reader: EventReader
    _range: LogRange

    async def identity(self) -> str:
        """The identity of this log: when its stream was created, and its name.

        It does not change with restarts and new leaders. A recreated log is another one. One that
        was restored from a backup is another one or the same, as the server has it (2.15 or 2.14):
        what it lost is known by `mark_at`.

        Raises `StreamMissing`, and a `ClientError` if the server could not be asked.
        """
        return await self._reader.identity()

    async def log_end(self) -> int:
        """The position of the last message of the log, 0 if it has none; from the leader.

        Takes one request, whatever the size of the log. Raises `StreamMissing` or a `ClientError`.
        """
        return await self._range.end()

    async def mark_at(self, position: int, *, live: bool = False) -> LogMark | None:
        """What the log has at a position, by its leader; None for nothing.

        With `live`, it waits for a lost connection as long as that takes. Raises `StreamMissing`,
        and `ClientError` if the server could not be asked.
        """
        return await self._reader.mark_at(position, live=live)

    async def check_seen(
        self, mark: LogMark, seen_by: str = "this process", *, live: bool = False
    ) -> None:
        """Return if the log still has what was seen of it, by its leader; see `mark_at`.

        `seen_by` says who has seen it, for the error. Raises `LogDiverged`, too.
        """
        await self._reader.check_seen(mark, seen_by, live=live)

    async def read_at(self, position: int, *, leader: bool = False) -> list[RecordedEvent]:
        """The event at a position, as the parts that it is decoded to; none if there is no event.

        What a foreign message has is not told apart from an event: check the id. Without `leader`
        it may be missed on a replicated stream. Raises `UnreadableEvent`.
        """
        message = await self._direct.at(position, leader=leader)
        if message is None:
            return []
        subject, headers = message.subject, message.headers
        try:
            keys = await self.keyring.to_open([headers])
            return self.codec.recorded(
                subject, headers, message.payload, position, keys, message.time
            )
        except InvalidMessage as error:
            raise UnreadableEvent(position, subject, error, headers) from error

    async def read_page(
        self,
        *,
        after: int = 0,
        max_events: int = MAX_PAGE,
        skip_unknown: bool = False,
        unread: bool = False,
    ) -> Page:
        """The first events after a position, without a consumer; `Page.position` is the next's.

        At most `max_events`, and as many as one answer of the server holds: 256 messages or 8 MB.
        Takes one request, another one at the end of the log, and one for each 64 aggregates of the
        page unless it is the log's first. All events that were acknowledged before are included.
        An empty page means that there are none after the position. `skip_unknown`, `unread` and
        what is raised are as in `EventReader.pages`; `InvalidRange`.
        """
        Bounds.checked(after, None, max_events)
        return await self._range.page(after, max_events, skip_unknown=skip_unknown, unread=unread)

    async def read_all(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        live: bool = False,
        skip_unknown: bool = False,
        opaque: bool = False,
        aggregate: str | None = None,
        types: Types = (),
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Events in the order of the log, or `backwards`, after a position; see `pages`.

        Up to and including `until`, and at most `limit`. `aggregate` is the kind of aggregates to
        read. The server filters it, which is fast while the log has fewer than 65,536 aggregates;
        beyond, it looks through all messages in between. `types` are the event types to read, by
        the name they were written as or are read as. They are filtered here: all events in between
        are read, which costs the same as reading them.

        Events that their class or an upcaster refuses are skipped, logged and noted in `findings`.
        Raises `UnreadableEvent` for events that only newer code may know: of an unknown type,
        unless those are skipped, filtered out, or read as `opaque`; or of a newer schema.
        `read_log` yields both, and goes on. `InvalidRange` for bounds that are none, and for a type
        that is in no collection; `live` has no `backwards`.
        """
        bounds = Bounds.checked(after, until, limit)
        if live and backwards:
            raise InvalidRange("a live reading goes on with new events: it cannot go backwards")
        self._check_aggregate(aggregate, opaque)
        names = _names_of(types)
        consumes = live or (bounds.is_open and not backwards and aggregate is None)
        skip_unknown = skip_unknown and not opaque
        if names:  # how many are read for one of these types is not known
            bounds = Bounds(after, until)
        if consumes:
            pages = self._reader.pages(
                after=after, live=live, skip_unknown=skip_unknown, unread=True
            )
        else:
            read_range = self._range.backwards if backwards else self._range.forwards
            pages = read_range(bounds, aggregate, skip_unknown=skip_unknown)
        reading = _events(pages, bounds, aggregate, backwards=backwards)
        count = 0
        async with aclosing(reading) as events:
            async for event in events:
                if names and not {event.type, event.envelope.type} & names:
                    continue
                read = self._read(event, opaque=opaque)
                if read is not None:
                    yield read
                    count += 1
                if count == limit:
                    return

    async def read_log(
        self, *, after: int = 0, live: bool = False, skip_unknown: bool = False
    ) -> AsyncGenerator[LogEvent, None]:
        """All events after a position, including those without data; see `pages`."""
        pages = self._reader.pages(after=after, live=live, skip_unknown=skip_unknown, unread=True)
        async with aclosing(pages):
            async for page in pages:
                for event in page.log_events:
                    yield event

    async def read_foreign(self, *, after: int = 0) -> AsyncGenerator[ForeignMessage, None]:
        """The messages after a position that the store did not write; reads all of the log."""
        async with aclosing(self._reader.pages(unread=True)) as pages:
            async for page in pages:
                for message in page.foreign:
                    if message.position > after:
                        yield message

    def _read(self, event: LogEvent, *, opaque: bool) -> RecordedEvent | None:
        if isinstance(event, RecordedEvent):
            return event
        if opaque and isinstance(event.error, UnknownType):
            return event.as_opaque()
        if isinstance(event.error, UnknownType | UnsupportedSchema):
            subject = self.codec.subjects.log(event.aggregate, event.aggregate_id)
            raise UnreadableEvent(event.position, subject, event.error, event.headers)
        return None

    def _check_aggregate(self, aggregate: str | None, opaque: bool) -> None:
        if aggregate is not None and opaque:
            check_name("aggregate", aggregate)
        elif aggregate is not None:
            self.codec.check_aggregate(aggregate)


async def _events(
    pages: AsyncGenerator[Page, None], bounds: Bounds, aggregate: str | None, *, backwards: bool
) -> AsyncGenerator[LogEvent, None]:
    """The events of pages that are within bounds, and of a kind of aggregate."""
    until = math.inf if bounds.until is None else bounds.until
    async with aclosing(pages):
        async for page in pages:
            for event in reversed(page.log_events) if backwards else page.log_events:
                if event.position <= until and aggregate in (None, event.aggregate):
                    yield event
            if page.position >= until and not backwards:
                return


def _names_of(types: Types) -> frozenset[str]:
    if isinstance(types, str | type):
        raise InvalidRange(f"types is {types!r}: give a list, even of one type")
    return frozenset(each if isinstance(each, str) else each.__name__ for each in types)
