"""The whole log in order: from a position, in pages of events, and then live where wanted."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from eventstore.client import Client
from eventstore.codec import Codec
from eventstore.direct import StoredMessage
from eventstore.envelope import LogEvent, RecordedEvent, UnreadEvent
from eventstore.errors import (
    CorruptLog,
    IncompleteBatch,
    InvalidMessage,
    UnknownType,
    UnreadableEvent,
)
from eventstore.keyring import Keyring
from eventstore.patience import Patience
from eventstore.raw_log import RawLog, StoredPage
from eventstore.sealing import NO_KEYS, Keys

__all__ = ["BatchCheck", "History", "Page", "read_events", "read_stored_event"]


class Page(msgspec.Struct, frozen=True):
    """Some events in the order of the log; never some parts of one without the others.

    `position` is the last position the page covers, `pending` about how many events are left after
    it (0: caught up). A page may be empty: the log was empty, or all its events were skipped.
    `unread` is what has no data, for a reader that asks for it.
    """

    events: list[RecordedEvent]
    position: int
    pending: int
    unread: Sequence[UnreadEvent] = ()

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

    @property
    def is_open(self) -> bool:
        """Whether more events of the last one's batch must follow."""
        return self._open is not None

    def see(self, headers: dict[str, str], position: int) -> None:
        """Take note of the next message; raises `IncompleteBatch`, and can go on after it."""
        batch = headers.get("Nats-Batch-Id")
        if batch is None and self._open is None:
            self._lenient = False
            return
        before, count = self._open, self._sequence
        sequence = _number(headers.get("Nats-Batch-Sequence", ""))
        expected = count + 1 if batch == before else 1
        lenient, self._lenient = self._lenient, False
        committed = "Nats-Batch-Commit" in headers
        self._open = None if committed else batch
        self._sequence = 0 if committed else sequence
        broken = before is not None and batch != before
        if broken or (batch is not None and sequence != expected and not lenient):
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
        raise UnreadableEvent(position, subject, error) from error


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


class _Decoding:
    """Makes pages of events of pages as stored, and sees what must not be."""

    def __init__(self, codec: Codec, position: int, *, skip_unknown: bool, unread: bool) -> None:
        self.position = position
        self.trouble: CorruptLog | None = None
        self._codec = codec
        self._skip_unknown = skip_unknown
        self._wants_unread = unread
        self._batches = BatchCheck()

    def page(self, stored: StoredPage, keys: Keys) -> Page:
        """The events up to the first that gives `trouble`."""
        events: list[RecordedEvent] = []
        unread: list[UnreadEvent] = []
        left = len(stored.messages)
        try:
            for message in stored.messages:
                found = self._read(message, keys)
                if isinstance(found, UnreadEvent):
                    unread.append(found)
                else:
                    events += found
                self.position = message.sequence
                left -= 1
        except CorruptLog as error:
            self.trouble = error
        return Page(events, self.position, stored.pending + left, unread)

    def _read(self, message: StoredMessage, keys: Keys) -> list[RecordedEvent] | UnreadEvent:
        self._batches.see(message.headers, message.sequence)
        if self._wants_unread:
            return read_stored_event(self._codec, message, keys, skip_unknown=self._skip_unknown)
        return read_events(
            self._codec,
            message.subject,
            message.headers,
            message.payload,
            message.sequence,
            skip_unknown=self._skip_unknown,
            keys=keys,
        )


class History:
    """A reader of the whole log; see `RawLog`, which it reads, for `patience`.

    `keyring` opens personal data; its keys are waited for in the same way.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        keyring: Keyring | None = None,
        patience: float = 30.0,
    ) -> None:
        self._client = client
        self._codec = codec
        self._patience = patience
        self._keyring = keyring or Keyring(client, codec.subjects)
        self._log = RawLog(client, codec.subjects.log_stream, patience=patience)

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
        upcasters drop, what is skipped, and what is unreadable except for its envelope.

        All events before one that gives trouble are handed out first; then it raises
        `UnreadableEvent`, `IncompleteBatch`, or `CorruptLog` where `after` lies beyond the end of
        the log, or the stream is another log by now: it was made anew, or restored. Raises
        `StreamMissing`, and a `ClientError` where the server could not be asked for too long.
        """
        decoding = _Decoding(self._codec, after, skip_unknown=skip_unknown, unread=unread)
        patience = Patience(self._client, math.inf if live else self._patience)
        stored_pages = self._log.pages(after=after, live=live, max_messages=max_events, log=log)
        async with aclosing(stored_pages):
            async for stored in stored_pages:
                before = decoding.position
                keys = await patience.answer(partial(self._keys, stored))
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
