"""The store: append events to the log of one domain, and read them back."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime

from eventstore.client.client import Client
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ClientError,
    InvalidId,
    InvalidMessage,
    SubjectForgotten,
    UnknownType,
    UnreadableEvent,
    UnsupportedSchema,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import PubAck
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, checked_clock, utc_now
from eventstore.messages.events import LogEvent, NewEvent, RecordedEvent, UnreadEvent
from eventstore.messages.subjects import AggregateId, check_name
from eventstore.messages.types import Event
from eventstore.store.aggregate_reading import AggregateReading
from eventstore.store.append import (
    ANY,
    Append,
    AppendResult,
    Expected,
    PendingAppend,
)
from eventstore.store.appender import Appender
from eventstore.store.chain_links import GENESIS_LINKS, Link
from eventstore.store.foreign import ForeignMessage, LogFindings
from eventstore.store.head import NOTHING, Head, find_head
from eventstore.store.id_index import IdIndex
from eventstore.store.keyring import Keyring
from eventstore.store.known_heads import KnownHeads
from eventstore.store.linked_reading import LinkedReading
from eventstore.store.log_writer import LogWriter
from eventstore.store.reader import EventReader
from eventstore.telemetry import NO_TELEMETRY, Telemetry


class EventStore(Resource):
    """The log of one domain; an async context manager.

    `append_timeout` bounds a whole append with all its retries, `request_timeout` each single
    answer of the log; both are seconds. `clock` gives the time of events that have none. `keyring`
    has the keys that encrypt and decrypt personal data. `findings` are the foreign messages and
    unreadable events that its readers have found. `pages` reads all of the log, in pages of events:
    see `EventReader.pages`.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        clock: Callable[[], datetime] = utc_now,
        append_timeout: float = 15.0,
        request_timeout: float = 5.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.codec = codec
        self._client = client
        self._clock = checked_clock(clock)
        self._append_timeout = append_timeout
        client.protect(codec.domain)
        self._request_timeout = request_timeout
        self._telemetry = telemetry
        self._direct = DirectReader(client, codec.subjects.log_stream, timeout=request_timeout)
        self._linked = LinkedReading(self._direct)
        self._ids = IdIndex(self._linked)
        self._heads = KnownHeads(client, codec.subjects.log_stream)
        self._log = LogWriter(client, codec.subjects.log_stream, self._ids, self._heads)
        self.keyring = Keyring(client, codec.subjects)
        self.findings = LogFindings(telemetry)
        self._reader = EventReader(client, codec, keyring=self.keyring, findings=self.findings)
        self.pages = self._reader.pages

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._direct)
        await stack.enter_async_context(self._heads)
        stack.push_async_callback(self.keyring.close)

    async def append(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        events: Event | NewEvent | Sequence[Event | NewEvent],
        *,
        expected: Expected = ANY,
        cause: Identity | None = None,
        actor: str | None = None,
    ) -> AppendResult:
        """Append events to one aggregate, all or none; see `Append` and `append_all`."""
        append = Append(
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            events=events if isinstance(events, Sequence) else [events],
            expected=expected,
            cause=cause,
            actor=actor,
        )
        (appended,) = await self.append_prepared(PendingAppend(append, self.codec, self._clock()))
        return appended

    async def append_all(self, *appends: Append) -> list[AppendResult]:
        """Append to one or several aggregates atomically: all events are recorded, or none.

        It is idempotent, for ever: repeated with the same event ids, it is recorded once and
        returns the same result, regardless of its expectations and of later events. No aggregate
        ever has an id twice: an append with ids that it has already, though not all of them as one
        run of events, is refused with `DuplicateId`. Ids in aggregates that the append does not
        name are found only within the server's duplicate window (2 minutes by default); after that
        such an event is recorded once more. Ids derived from a `cause` differ between aggregates.

        Ids of the caller's own (in a `NewEvent`, or from a `cause`) cost a search in each
        aggregate, except with `NO_STREAM`: the first one reads all of it, later ones only newer
        events, as long as the store remembers the aggregate's ids (16 MB in all, 4 bytes each and
        at least 2 KB an aggregate; beyond 65,000 events of one aggregate, a growing share of the
        searches reads all of it). Ids that the store makes itself cost nothing.

        Raises `Conflict` (nothing recorded), `AppendUnknown` (may or may not be recorded: repeat
        it), `EventTooLarge`, `BatchTooLarge` or `SubjectForgotten` (nothing sent), `DuplicateId`,
        `InvalidMessage` for events that may not be in the log, and `ClientError` if the server
        could not be asked, or refuses.
        """
        now = self._clock()
        return await self.append_prepared(*(self.prepare(append, now) for append in appends))

    def prepare(
        self, append: Append, now: datetime | None = None, *, is_checked: bool = False
    ) -> PendingAppend:
        """Encode the events of an append for `append_prepared`; sends nothing.

        `now` is the time of events that have none, by default the clock's; `is_checked`: the ids
        and all else that the append has for their envelopes come from one that was decoded. Raises
        `InvalidMessage` for events that may not be in the log.
        """
        return PendingAppend(append, self.codec, now or self._clock(), is_checked=is_checked)

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        """Append what was prepared, once; guarantees and raises what `append_all` does."""
        if len(writes) != 1:
            _check_together(writes)
        if any(write.has_personal for write in writes):
            try:
                await self._seal(writes)
            except SubjectForgotten:  # perhaps after it was recorded
                if before := await self._appender(writes).recorded_before(self._append_timeout):
                    return before
                raise
        began, tried = time.monotonic(), None
        if self._log.begin(writes):
            timeout = min(self._request_timeout, self._append_timeout)
            tried = await self._log.attempt(writes, timeout)
            if tried is None:
                return [write.result for write in writes if write.result]
        appender = self._appender(writes, tried)
        return await appender.run(self._append_timeout, began)

    def _appender(
        self, writes: Sequence[PendingAppend], tried: ClientError | PubAck | None = None
    ) -> Appender:
        return Appender(
            self._client,
            self._direct,
            self._ids,
            self._heads,
            writes,
            self._request_timeout,
            self._telemetry,
            self._log,
            tried,
        )

    async def _seal(self, writes: Sequence[PendingAppend]) -> None:
        subjects = {subject for write in writes for subject in write.data_subjects}
        keys = await self.keyring.to_seal(subjects)
        for write in writes:
            write.seal(keys)

    async def identity(self) -> str:
        """The identity of this log: when its stream was created, and its name.

        It does not change with restarts and new leaders. A recreated log is another one, and so is
        one restored from a backup: events after the backup are lost, and their positions will be
        used by other events.

        Raises `StreamMissing`, and a `ClientError` if the server could not be asked.
        """
        return await self._reader.identity()

    async def head(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        leader: bool = False,
        known: Head | None = None,
    ) -> Head:
        """The head of an aggregate; `NOTHING` if it has no events.

        Without `leader` it may be outdated on a replicated stream. `known` is an earlier head,
        which may save a request.
        """
        self.codec.check_aggregate(aggregate)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        era, known = self._heads.era, known or self._heads.get(subject)
        found = await find_head(self._direct, subject, leader=leader, known=known)
        self._heads.note(subject, found.head, era)
        return found.head

    async def last_position(self, aggregate: str, aggregate_id: AggregateId) -> int:
        """The position of the last message of an aggregate, 0 if it has none.

        It may be foreign, and outdated on a replicated stream.
        """
        last = await self._direct.last(self.codec.subjects.log(aggregate, aggregate_id))
        return 0 if last is None else last.sequence

    async def holds(
        self, aggregate: str, aggregate_id: AggregateId, head: Head, *, leader: bool = False
    ) -> bool:
        """Whether this is, or once was, the aggregate's head: this event, after the same events.

        Without `leader` the newest events may be missed on a replicated stream.
        """
        self.codec.check_aggregate(aggregate)
        message = await self._direct.at(head.position, leader=leader)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        return message is not None and message.subject == subject and head.matches(message)

    async def read(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        after: int | Head = 0,
        leader: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """One aggregate's events, oldest first, after a version or a known head.

        The events are verified: versions without a gap, chain values that follow, known types. An
        event of an older schema may be read as several events of one version, or as none. Foreign
        messages, a changed last event among them, are skipped. Without `leader`, which costs
        another request, it may miss the newest events on a replicated stream.

        Raises `UnreadableEvent`, which names the event, and that or `VersionGap` if events were
        changed or removed that later ones were built upon.
        """
        skip = 0 if isinstance(after, Head) else after
        start = after if isinstance(after, Head) else NOTHING
        reading = self.read_stored(aggregate, aggregate_id, after=start, leader=leader)
        async with aclosing(reading) as stored:
            async for _, events in stored:
                for event in events:
                    if event.version > skip:
                        yield event

    async def read_stored(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        after: Head = NOTHING,
        leader: bool = False,
    ) -> AsyncGenerator[tuple[StoredMessage, list[RecordedEvent]], None]:
        """One aggregate's events as stored, oldest first, each with its decoded parts.

        For callers that need the head after each event (`Head.of`), even after one that is decoded
        to nothing. Verifies and raises as `read` does.
        """
        self.codec.check_aggregate(aggregate)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        start = Link(after.version, after.chain, after.position)
        reading = AggregateReading(self.codec, start, self.findings)
        era, last = self._heads.era, None
        decoded = self._decoded(reading, subject, after.position, leader)
        async with aclosing(decoded) as pages:
            async for page in pages:
                for message, found in page:
                    if isinstance(found, UnreadEvent) and found.error is not None:
                        error = found.error
                        raise UnreadableEvent(message.sequence, subject, error, message.headers)
                    last = message
                    yield message, found if isinstance(found, list) else []
        if reading.problem is not None:
            raise reading.problem
        if last is not None:
            self._heads.note(subject, Head.of(last), era)

    async def read_at(self, position: int, *, leader: bool = False) -> list[RecordedEvent]:
        """The event at a position, as the parts that it is decoded to; none if there is no event.

        What a foreign message has is not told apart from an event: check the id. Without `leader`
        it may be missed on a replicated stream. Raises `UnreadableEvent`.
        """
        message = await self._direct.at(position, leader=leader)
        if message is None:
            return []
        try:
            keys = await self.keyring.to_open([message.headers])
            return self.codec.recorded(
                message.subject, message.headers, message.payload, position, keys
            )
        except InvalidMessage as error:
            raise UnreadableEvent(position, message.subject, error, message.headers) from error

    async def read_whole(
        self, aggregate: str, aggregate_id: AggregateId, *, leader: bool = False
    ) -> AsyncGenerator[list[RecordedEvent] | UnreadEvent, None]:
        """One aggregate's events as stored, oldest first, each as its parts or without data.

        For callers that must go on after an unreadable event; those of an unknown aggregate all
        are. `leader` is as in `read`. Foreign messages are skipped, and so are events that were
        built upon a changed one.
        """
        subject = self.codec.subjects.log(check_name("aggregate", aggregate), aggregate_id)
        reading = AggregateReading(self.codec, GENESIS_LINKS.head, self.findings)
        async with aclosing(self._decoded(reading, subject, 0, leader)) as pages:
            async for page in pages:
                for _, found in page:
                    yield found

    async def _decoded(
        self, reading: AggregateReading, subject: str, after: int, leader: bool
    ) -> AsyncGenerator[list[tuple[StoredMessage, list[RecordedEvent] | UnreadEvent]], None]:
        """The aggregate's messages that are events, with what they are decoded to, in pages."""
        async with aclosing(self._linked.pages(subject, after, leader=leader)) as pages:
            async for page in pages:
                keys = await self.keyring.to_open(message.headers for message in page)
                read = ((message, reading.read(message, keys)) for message in page)
                yield [(message, found) for message, found in read if found is not None]

    async def read_all(
        self, *, after: int = 0, live: bool = False, skip_unknown: bool = False
    ) -> AsyncGenerator[RecordedEvent, None]:
        """All events in the order of the log, after a position; see `pages`.

        Events that their class or an upcaster refuses are skipped, logged and noted in `findings`.
        Raises `UnreadableEvent` for events that only newer code may know: of an unknown type,
        unless those are skipped, or of a newer schema. `read_log` yields both, and goes on.
        """
        read = self.read_log(after=after, live=live, skip_unknown=skip_unknown)
        async with aclosing(read) as events:
            async for event in events:
                if isinstance(event, RecordedEvent):
                    yield event
                elif isinstance(event.error, UnknownType | UnsupportedSchema):
                    subject = self.codec.subjects.log(event.aggregate, event.aggregate_id)
                    raise UnreadableEvent(event.position, subject, event.error, event.headers)

    async def read_log(
        self, *, after: int = 0, live: bool = False, skip_unknown: bool = False
    ) -> AsyncGenerator[LogEvent, None]:
        """All events after a position, including those without data; see `pages`."""
        pages = self.pages(after=after, live=live, skip_unknown=skip_unknown, unread=True)
        async with aclosing(pages):
            async for page in pages:
                for event in page.log_events:
                    yield event

    async def read_foreign(self, *, after: int = 0) -> AsyncGenerator[ForeignMessage, None]:
        """The messages after a position that the store did not write; reads all of the log."""
        async with aclosing(self.pages(unread=True)) as pages:
            async for page in pages:
                for message in page.foreign:
                    if message.position > after:
                        yield message


def _check_together(writes: Sequence[PendingAppend]) -> None:
    """Raise `InvalidMessage` unless these can be one append; each by itself is checked."""
    if not writes or len({write.subject for write in writes}) < len(writes):
        raise InvalidMessage("an append names at least one aggregate, and each only once")
    ids = [event_id for write in writes for event_id in write.event_ids]
    if len(set(ids)) < len(ids):
        raise InvalidId(
            f"append to {writes[0].subject}: an event id repeats; each event needs its own"
        )
