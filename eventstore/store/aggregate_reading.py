"""Decodes the stored events of one aggregate, and skips messages that do not follow its chain."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.errors import (
    CorruptLog,
    InvalidMessage,
    UnknownType,
    UnreadableEvent,
    VersionGap,
)
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import Keys
from eventstore.messages.events import RecordedEvent, UnreadEvent
from eventstore.store.chain_links import Link, Links, follow, link_after
from eventstore.store.foreign import LogFindings, damaged

FoundEvent = tuple[StoredMessage, list[RecordedEvent] | UnreadEvent]
"""An event as stored, with what it is decoded to."""


def read_stored_event(
    codec: Codec, message: StoredMessage, keys: Keys, *, skip_unknown: bool = False
) -> list[RecordedEvent] | UnreadEvent:
    """Decode one message of the log to its parts, or to an event without data.

    Raises `UnreadableEvent` if not even its envelope can be decoded.
    """
    subject, headers, payload = message.subject, message.headers, message.payload
    position, time = message.sequence, message.time
    error: InvalidMessage | None = None
    try:
        if events := codec.recorded(subject, headers, payload, position, keys, time):
            return events
    except InvalidMessage as problem:
        if not (skip_unknown and isinstance(problem, UnknownType)):
            error = problem
    try:
        return codec.unread(subject, headers, payload, position, error, time)
    except InvalidMessage as problem:
        raise UnreadableEvent(position, subject, problem) from problem


def parts_of(
    found: list[RecordedEvent] | UnreadEvent, subject: str, *, opaque: bool = False
) -> list[RecordedEvent]:
    """The parts of an event; with `opaque`, one of an unknown type as it is stored.

    Raises `UnreadableEvent` for one that cannot be decoded.
    """
    if isinstance(found, list):
        return found
    if opaque and isinstance(found.error, UnknownType):
        return [found.as_opaque()]
    if found.error is not None:
        raise UnreadableEvent(found.position, subject, found.error, found.headers)
    return []


def version_of(found: FoundEvent) -> int:
    """The version of an event."""
    read = found[1]
    return read.version if isinstance(read, UnreadEvent) else read[0].version


class AggregateReading:
    """Decodes the messages of one aggregate in order, and skips those that are foreign.

    `after` is the event that the first one follows. An event that was built upon a message which
    does not follow is the `problem`, until an event comes that follows the last valid one.
    """

    def __init__(self, codec: Codec, after: Link, findings: LogFindings | None = None) -> None:
        self.problem: CorruptLog | None = None
        self._codec = codec
        self._links = Links(after)
        self._findings = findings

    @property
    def head(self) -> Link:
        """The last event that was read, or `after`."""
        return self._links.head

    def page(self, messages: Sequence[StoredMessage], keys: Keys) -> list[FoundEvent]:
        """Those of the next messages that are events."""
        return [
            (message, found)
            for message in messages
            if (found := self.read(message, keys)) is not None
        ]

    def read(self, message: StoredMessage, keys: Keys) -> list[RecordedEvent] | UnreadEvent | None:
        """The parts of an event, or the event without data; None for a skipped message."""
        link = link_after(self._links.head, message)
        if link is None:
            self._examine(message)
            return None
        try:
            found = read_stored_event(self._codec, message, keys)
        except UnreadableEvent as error:
            self._skip(message, str(error.cause))
            return None
        self._links = self._links.after(link)
        self.problem = None
        return found

    def _examine(self, message: StoredMessage) -> None:
        followed = follow(self._links, message)
        self._links = followed.links
        if followed.problem is not None:
            self._skip(message, followed.problem.text)
        elif followed.confirmed is not None and self.problem is None:
            head, confirmed, subject = self._links.head, followed.confirmed, message.subject
            if confirmed.version > head.version + 1:
                text = f"{subject} has no version {head.version + 1} before {confirmed.position}"
                self.problem = VersionGap(text)
            else:
                cause = damaged(head, confirmed)
                self.problem = UnreadableEvent(message.sequence, subject, cause, message.headers)

    def _skip(self, message: StoredMessage, reason: str) -> None:
        if self._findings is not None:
            self._findings.note("foreign", message.sequence, message.subject, reason)
