"""The whole log in order: from a position, in pages of events, and then live where wanted."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from eventstore.client.client import Client
from eventstore.errors import (
    CorruptLog,
    IncompleteBatch,
    InvalidMessage,
    UnknownType,
    UnreadableEvent,
    VersionGap,
)
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import NO_KEYS, Keys
from eventstore.messages.envelope import Header, LogEvent, RecordedEvent, UnreadEvent
from eventstore.store.chain_links import Link, Links, extends, follow
from eventstore.store.foreign import ForeignMessage, LogFindings, Trails, damaged
from eventstore.store.keyring import Keyring
from eventstore.store.log import StoredLog, StoredPage, batch_of

__all__ = [
    "AggregateReading",
    "BatchCheck",
    "EventReader",
    "Page",
    "read_events",
    "read_stored_event",
]


class Page(msgspec.Struct, frozen=True):
    """Some events in the order of the log; never some parts of one without the others.

    `position` is the last position the page covers, `pending` about how many events are left after
    it (0: caught up). A page may be empty: the log was empty, or all its events were skipped.
    `unread` is what has no data, for a reader that asks for it; `foreign` is what the store did not
    write, and is no event.
    """

    events: list[RecordedEvent]
    position: int
    pending: int
    unread: Sequence[UnreadEvent] = ()
    foreign: Sequence[ForeignMessage] = ()

    @property
    def log_events(self) -> Sequence[LogEvent]:
        """The events, and what has no data, in the order of the log."""
        if not self.unread:
            return self.events
        return sorted([*self.events, *self.unread], key=lambda event: event.position)


class BatchCheck:
    """Sees that atomic batches are whole, while events pass in the order of the log.

    Where reading may begin in the middle of a batch, `anywhere`, that is no trouble.
    """

    def __init__(self, *, anywhere: bool = True) -> None:
        self._open: str | None = None
        self._sequence = 0
        self._lenient = anywhere
        self._is_own = False
        self._lacks_some = False

    @property
    def is_open(self) -> bool:
        """Whether more events of the last one's batch must follow."""
        return self._open is not None

    def see(self, headers: dict[str, str], position: int, *, foreign: bool = False) -> None:
        """Take note of the next message; raises `IncompleteBatch`, and can go on after it.

        A batch of none but foreign messages is no trouble, whatever it lacks.
        """
        batch = batch_of(headers)
        if batch is None and self._open is None:
            self._lenient = False
            return
        before, count = self._open, self._sequence
        sequence = _number(headers.get(NatsHeader.BATCH_SEQUENCE, ""))
        expected = count + 1 if batch == before else 1
        lenient, self._lenient = self._lenient, False
        committed = NatsHeader.BATCH_COMMIT in headers
        self._open = None if committed else batch
        self._sequence = 0 if committed else sequence
        broken = self._is_own and before is not None and batch != before
        self._is_own = not foreign or (self._is_own and batch == before)
        lacks_some = batch is not None and sequence != expected and not lenient
        lacks_some |= self._lacks_some and batch == before
        self._lacks_some = lacks_some and not self._is_own
        if broken or (lacks_some and self._is_own):
            raise IncompleteBatch(
                f"position {position}: batch {before or batch} breaks off after {count} events"
            )


def read_events(
    codec: Codec,
    subject: str,
    headers: dict[str, str],
    payload: bytes,
    position: int,
    *,
    skip_unknown: bool = False,
    keys: Keys = NO_KEYS,
) -> list[RecordedEvent]:
    """Read one message of the log: its parts, and none for an unknown type that is to be skipped.

    Raises `UnreadableEvent`, which names the position and the cause.
    """
    try:
        return codec.recorded(subject, headers, payload, position, keys)
    except InvalidMessage as error:
        if skip_unknown and isinstance(error, UnknownType):
            return []
        raise UnreadableEvent(position, subject, error, headers) from error


def read_stored_event(
    codec: Codec, message: StoredMessage, keys: Keys, *, skip_unknown: bool = False
) -> list[RecordedEvent] | UnreadEvent:
    """Read one message of the log: its parts, or what is known of it where it has no data.

    Raises `UnreadableEvent` where not even its envelope can be understood.
    """
    subject, headers, position = message.subject, message.headers, message.sequence
    error: InvalidMessage | None = None
    try:
        if events := read_events(
            codec,
            subject,
            headers,
            message.payload,
            position,
            skip_unknown=skip_unknown,
            keys=keys,
        ):
            return events
    except UnreadableEvent as unreadable:
        error = unreadable.cause
    try:
        return codec.unread(subject, headers, message.payload, position, error)
    except InvalidMessage as broken:
        raise UnreadableEvent(position, subject, broken) from broken


class AggregateReading:
    """Reads the messages of one aggregate in order, and passes over those that are foreign.

    `after` is the event that the first one follows on. What was built upon a message that does not
    follow is `trouble`, until an event comes that follows on the last good one after all.
    """

    def __init__(self, codec: Codec, after: Link, findings: LogFindings | None = None) -> None:
        self.trouble: CorruptLog | None = None
        self._codec = codec
        self._links = Links(after)
        self._findings = findings

    def read(self, message: StoredMessage, keys: Keys) -> list[RecordedEvent] | UnreadEvent | None:
        """The parts of an event, or the event without data; None for what is passed over."""
        head = self._links.head
        if not extends(head, message):
            self._look_at(message)
            return None
        try:
            found = read_stored_event(self._codec, message, keys)
        except UnreadableEvent as error:
            self._pass_over(message, str(error.cause))
            return None
        link = Link(head.version + 1, message.headers[Header.CHAIN], message.sequence)
        self._links = self._links.after(link)
        self.trouble = None
        return found

    def _look_at(self, message: StoredMessage) -> None:
        followed = follow(self._links, message)
        self._links = followed.links
        if followed.problem is not None:
            self._pass_over(message, followed.problem.text)
        elif followed.confirmed is not None and self.trouble is None:
            self.trouble = self._damage(message, followed.confirmed)

    def _pass_over(self, message: StoredMessage, reason: str) -> None:
        if self._findings is not None:
            self._findings.note("foreign", message.sequence, message.subject, reason)

    def _damage(self, message: StoredMessage, confirmed: Link) -> CorruptLog:
        head, subject = self._links.head, message.subject
        if confirmed.version > head.version + 1:
            return VersionGap(
                f"{subject} has no version {head.version + 1} before {confirmed.position}"
            )
        return UnreadableEvent(message.sequence, subject, damaged(head, confirmed), message.headers)


class _Decoding:
    """Makes pages of events of pages as stored, and sees what must not be."""

    def __init__(
        self,
        codec: Codec,
        position: int,
        trails: Trails,
        findings: LogFindings,
        *,
        skip_unknown: bool,
        unread: bool,
    ) -> None:
        self.position = position
        self.trouble: CorruptLog | None = None
        self._codec = codec
        self._trails = trails
        self._findings = findings
        self._skip_unknown = skip_unknown
        self._wants_unread = unread
        self._batches = BatchCheck()

    def page(self, stored: StoredPage, keys: Keys) -> Page:
        """The events up to the first that gives `trouble`."""
        events: list[RecordedEvent] = []
        unread: list[UnreadEvent] = []
        foreign: list[ForeignMessage] = []
        left = len(stored.messages)
        try:
            for message in stored.messages:
                found = self._read(message, keys)
                foreign_too = isinstance(found, ForeignMessage)
                self._batches.see(message.headers, message.sequence, foreign=foreign_too)
                if isinstance(found, ForeignMessage):
                    foreign.append(found)
                elif isinstance(found, UnreadEvent):
                    self._take_unread(found, message.subject, unread)
                else:
                    events += found
                self.position = message.sequence
                left -= 1
        except CorruptLog as error:
            self.trouble = error
        return Page(events, self.position, stored.pending + left, unread, foreign)

    def _read(
        self, message: StoredMessage, keys: Keys
    ) -> list[RecordedEvent] | UnreadEvent | ForeignMessage:
        head = self._trails.head_of(message.subject)
        if not extends(head, message):
            return self._look_at(message, head)
        skip = self._skip_unknown
        try:
            found = read_stored_event(self._codec, message, keys, skip_unknown=skip)
        except UnreadableEvent as error:
            return self._pass_over(message, str(error.cause))
        chain = message.headers[Header.CHAIN]
        self._trails.move(message, Link(head.version + 1, chain, message.sequence))
        return found

    def _look_at(self, message: StoredMessage, head: Link) -> UnreadEvent | ForeignMessage:
        followed = self._trails.follow(message)
        if followed.confirmed is None:
            problem = followed.problem
            return self._pass_over(message, "" if problem is None else problem.text)
        return self._codec.unread(
            message.subject,
            message.headers,
            message.payload,
            message.sequence,
            damaged(head, followed.confirmed),
        )

    def _pass_over(self, message: StoredMessage, reason: str) -> ForeignMessage:
        self._findings.note("foreign", message.sequence, message.subject, reason)
        return ForeignMessage.of(message, reason)

    def _take_unread(self, event: UnreadEvent, subject: str, unread: list[UnreadEvent]) -> None:
        if event.error is not None and not self._wants_unread:
            raise UnreadableEvent(event.position, subject, event.error, event.headers)
        if event.error is not None:
            reason = f"{event.type} {event.id}: {event.error}"
            self._findings.note("unreadable", event.position, subject, reason)
        if self._wants_unread:
            unread.append(event)


class EventReader:
    """A reader of the whole log; see `StoredLog`, which it reads, for `retry_timeout`.

    `keyring` opens personal data; its keys are waited for in the same way. `findings` take note of
    what is foreign or unreadable.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        keyring: Keyring | None = None,
        findings: LogFindings | None = None,
        retry_timeout: float = 30.0,
    ) -> None:
        self.findings = findings or LogFindings()
        self._client = client
        self._codec = codec
        self._retry_timeout = retry_timeout
        self._keyring = keyring or Keyring(client, codec.subjects)
        self._log = StoredLog(client, codec.subjects.log_stream, retry_timeout=retry_timeout)

    async def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
        unread: bool = False,
        log: str | None = None,
    ) -> AsyncGenerator[Page, None]:
        """The events after a position, at most `max_events` stored ones a page.

        All are of one log: of that whose `identity` is `log`, or else of the one found at first.

        Without `live` it ends when it has caught up; with it, it waits for more and never ends
        by itself. Memory is bounded by four pages. What was acknowledged before it began is among
        them, on a replicated log too. With `unread`, pages have what has no data, too: what
        upcasters drop, what is skipped, and what is unreadable except for its envelope. Foreign
        messages are passed over, and told in `Page.foreign`. Where reading begins after the log's
        beginning, the event before the first of each aggregate is trusted if that follows on it.

        All events before one that gives trouble are handed out first; then it raises
        `UnreadableEvent` without `unread`, `IncompleteBatch`, or `CorruptLog` where `after` lies
        beyond the end of the log, or the stream is another log by now: it was made anew, or
        restored. Raises `StreamMissing`, and a `ClientError` where the server could not be asked
        for too long.
        """
        retry = Retry(self._client, "reading the log", math.inf if live else self._retry_timeout)
        stored_pages = self._log.pages(after=after, live=live, max_messages=max_events, log=log)
        direct = DirectReader(self._client, self._codec.subjects.log_stream)
        async with direct, aclosing(stored_pages):
            trails = Trails(direct, from_start=after == 0)
            decoding = _Decoding(
                self._codec,
                after,
                trails,
                self.findings,
                skip_unknown=skip_unknown,
                unread=unread,
            )
            async for stored in stored_pages:
                before = decoding.position
                await retry.run(partial(trails.prepare, stored.messages))
                keys = await retry.run(partial(self._keys, stored))
                page = decoding.page(stored, keys)
                if page.position > before or not stored.messages:
                    yield page
                if decoding.trouble is not None:
                    raise decoding.trouble

    async def _keys(self, stored: StoredPage) -> Keys:
        return await self._keyring.to_open(message.headers for message in stored.messages)

    async def identity(self) -> str:
        """When the stream was created, and its name; at most 128 characters."""
        return await self._log.identity()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else 0
