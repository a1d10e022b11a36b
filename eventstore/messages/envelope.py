"""The envelope of every message: its identity, cause and correlation, carried in headers.

The payload is only data.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Never

from msgspec import Struct, to_builtins

from eventstore.errors import ConfigurationError, InvalidHeader, InvalidId
from eventstore.messages.headers import (
    AUTHENTICATED_AS,
    COMMAND_DIGEST,
    JSON,
    RFC_3339,
    UUID,
    Header,
    check_envelope,
)
from eventstore.messages.matched_headers import MatchedHeaders
from eventstore.messages.opaque_headers import mark_lines, opaque_lines, own_headers

_EVENT_LINES = (
    f"{Header.EVENT_ID}: %s\r\n"
    f"{Header.EVENT_TYPE}: %s\r\n"
    f"{Header.CORRELATION_ID}: %s\r\n"
    f"{Header.CAUSATION_ID}: %s\r\n"
    f"{Header.TIMESTAMP}: %s\r\n"
    f"{Header.DOMAIN}: %s\r\n"
    f"{Header.SCHEMA_VERSION}: %s\r\n"
    f"{Header.CONTENT_TYPE}: %s\r\n"
    f"{Header.MESSAGE_ID}: %s\r\n"
    f"{Header.AGGREGATE_ID}: %s\r\n"
)
_EPOCH = datetime.fromtimestamp(0, UTC)
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_CANONICAL = re.compile(r"[0-9T:-]{19}\.[0-9]{6}Z")


MessageId = str | uuid.UUID
"""The id of a command, an event or a query: a UUID, or its canonical text."""


def new_id() -> str:
    """A new random message id: a UUID in its canonical text form."""
    # As `uuid.uuid4` does, in a third of the time: it is made for every event.
    return _uuid(os.urandom(16).hex(), "4")


def derive_id(parent_id: str, name: str) -> str:
    """The id derived from a parent's id and a name, always the same (UUIDv5, RFC 9562)."""
    # As `uuid.uuid5` does, in a third of the time: it is made for every event.
    parent = bytes.fromhex(parent_id.replace("-", ""))
    return _uuid(hashlib.sha1(parent + name.encode(), usedforsecurity=False).hexdigest(), "5")


def _uuid(digits: str, version: str) -> str:
    """The UUID of a version that has these hexadecimal digits otherwise; those after 32 are cut."""
    start = f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}"
    return f"{start}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:32]}"


def check_message_id(value: MessageId) -> str:
    """Return `value` as text if it is a UUID, or one as text in canonical form.

    Raises `InvalidId` otherwise.
    """
    text = str(value) if isinstance(value, uuid.UUID) else value
    if not (isinstance(text, str) and UUID.fullmatch(text)):
        shown = text[:80] if isinstance(text, str) else text
        raise InvalidId(f"message id {shown!r} is not a UUID in lower-case canonical form")
    return text


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def checked_clock(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """The same clock in UTC; raises `ConfigurationError` for what is no time with a zone."""

    def now() -> datetime:
        time = clock()
        try:
            return time.astimezone(UTC) if time.utcoffset() is not None else _no_time(time)
        except (AttributeError, OverflowError):
            return _no_time(time)

    return clock if clock is utc_now else now


def _no_time(value: object) -> Never:
    raise ConfigurationError(
        f"the clock returned {value!r}; it must return a datetime with a zone, as "
        "datetime.now(UTC) does"
    )


def instant(nanoseconds: int) -> datetime:
    """The time of so many nanoseconds of the Unix epoch, to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)


def format_timestamp(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds; raises `ValueError` if `time` has no zone."""
    if time.tzinfo is None:
        raise ValueError(f"time {time} has no zone")
    utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    if utc.microsecond and type(utc) is datetime:
        text: str = to_builtins(utc)  # the same, in a tenth of the time
        return text
    return utc.isoformat(timespec="microseconds")[:26] + "Z"  # without the offset


def parse_timestamp(text: str) -> datetime:
    """Parse any RFC 3339 time (digits below the microsecond are dropped).

    Raises `ValueError` for anything else.
    """
    if not RFC_3339.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not an RFC 3339 time")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:  # its offset leads beyond year 1 or 9999
        raise ValueError(f"{text[:80]!r}: {error}") from error


class Identity(Struct, frozen=True, gc=False):
    """A message's own id, its correlation id, and the id of the message that caused it.

    A root's three ids are equal.
    """

    id: str
    correlation_id: str
    causation_id: str

    @classmethod
    def root(cls, message_id: MessageId | None = None) -> Identity:
        """The start of a new correlation; raises `InvalidId` for an id that is not a UUID."""
        own = new_id() if message_id is None else check_message_id(message_id)
        return cls(own, own, own)

    @classmethod
    def caused_by(cls, parent: Identity, message_id: MessageId | None = None) -> Identity:
        """A message that `parent` caused: a new id and the same correlation.

        Raises `InvalidId` for an id that is not a UUID, or is the parent's or the correlation's.
        """
        own = new_id() if message_id is None else check_message_id(message_id)
        if own in (parent.id, parent.correlation_id):
            raise InvalidId(f"message {own} cannot have caused itself")
        return cls(own, parent.correlation_id, parent.id)


class Envelope(Struct, frozen=True, kw_only=True, gc=False):
    """The metadata of a message.

    `timestamp` is RFC 3339 text in UTC with microseconds. Only recorded events have `version`,
    `chain` and `command_digest`, which distinguishes their command from another with the same id.
    `actor` is whom the sender claims to act for; `authenticated_as` is the sender of the command
    according to the server, if it is known. `content_type` is another than JSON, and `opaque` are
    the headers of the event's own, only if the event is opaque.
    """

    identity: Identity
    type: str
    domain: str
    timestamp: str
    aggregate_id: str | None = None
    schema_version: int = 1
    version: int | None = None
    chain: str | None = None
    actor: str | None = None
    authenticated_as: str | None = None
    command_digest: str | None = None
    traceparent: str | None = None
    content_type: str = JSON
    opaque: Mapping[str, str] | None = None

    def to_headers(self) -> dict[str, str]:
        """The headers that carry this envelope; raises `InvalidHeader` for an illegal value."""
        identity = self.identity
        headers = {
            Header.EVENT_ID: identity.id,
            Header.EVENT_TYPE: self.type,
            Header.CORRELATION_ID: identity.correlation_id,
            Header.CAUSATION_ID: identity.causation_id,
            Header.TIMESTAMP: self.timestamp,
            Header.DOMAIN: self.domain,
            Header.SCHEMA_VERSION: str(self.schema_version),
            Header.CONTENT_TYPE: self.content_type,
            Header.MESSAGE_ID: identity.id,
        }
        for name, value in (
            (Header.AGGREGATE_ID, self.aggregate_id),
            (Header.AGGREGATE_VERSION, self.version),
            (Header.CHAIN, self.chain),
            (Header.ACTOR, self.actor),
            (AUTHENTICATED_AS, self.authenticated_as),
            (COMMAND_DIGEST, self.command_digest),
            (Header.TRACEPARENT, self.traceparent),
        ):
            if value is not None:
                headers[name] = str(value)
        if self.opaque is not None:
            headers |= mark_lines(self.opaque)
        check_envelope(headers)
        _canonical_time(self.timestamp)
        return headers

    def event_lines(self) -> str:
        """The lines of `to_headers` for an event that has no version yet; nothing is checked."""
        identity = self.identity
        lines = _EVENT_LINES % (
            identity.id,
            self.type,
            identity.correlation_id,
            identity.causation_id,
            self.timestamp,
            self.domain,
            self.schema_version,
            self.content_type,
            identity.id,
            self.aggregate_id,
        )
        optional = optional_lines(
            self.actor, self.authenticated_as, self.command_digest, self.traceparent
        )
        return lines + optional + opaque_lines(self.opaque)

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Envelope:
        """Parse an envelope; raises `InvalidHeader`, naming the header, for an illegal value.

        Headers that are not part of the envelope are ignored. Times are normalised to UTC.
        """
        if isinstance(headers, EventHeaders):
            return headers.envelope
        check_envelope(headers)
        version = headers.get(Header.AGGREGATE_VERSION)
        return cls(
            identity=Identity(
                headers[Header.EVENT_ID],
                headers[Header.CORRELATION_ID],
                headers[Header.CAUSATION_ID],
            ),
            type=headers[Header.EVENT_TYPE],
            domain=headers[Header.DOMAIN],
            timestamp=_canonical_time(headers[Header.TIMESTAMP]),
            aggregate_id=headers.get(Header.AGGREGATE_ID),
            schema_version=int(headers.get(Header.SCHEMA_VERSION, "1")),
            version=None if version is None else int(version),
            chain=headers.get(Header.CHAIN),
            actor=headers.get(Header.ACTOR),
            authenticated_as=headers.get(AUTHENTICATED_AS),
            command_digest=headers.get(COMMAND_DIGEST),
            traceparent=headers.get(Header.TRACEPARENT),
            content_type=headers.get(Header.CONTENT_TYPE, JSON),
            opaque=own_headers(headers),
        )


def optional_lines(
    actor: str | None,
    authenticated_as: str | None,
    command_digest: str | None,
    traceparent: str | None,
) -> str:
    """The lines of the headers that not every event has; nothing is checked."""
    lines = "" if actor is None else f"{Header.ACTOR}: {actor}\r\n"
    if authenticated_as is not None:
        lines += f"{AUTHENTICATED_AS}: {authenticated_as}\r\n"
    if command_digest is not None:
        lines += f"{COMMAND_DIGEST}: {command_digest}\r\n"
    if traceparent is not None:
        lines += f"{Header.TRACEPARENT}: {traceparent}\r\n"
    return lines


class EventHeaders(MatchedHeaders):
    """Legal headers of an event or a command, and their envelope."""

    __slots__ = ("envelope",)

    def __init__(
        self, indexes: Mapping[str, int], values: Sequence[str | None], envelope: Envelope
    ) -> None:
        self._indexes = indexes
        self._values = values
        self.envelope = envelope


def _canonical_time(value: str) -> str:
    """An RFC 3339 time in UTC with microseconds; raises `InvalidHeader` for others."""
    try:
        if not _CANONICAL.fullmatch(value):
            return format_timestamp(parse_timestamp(value))
        datetime.fromisoformat(value)
    except (ValueError, OverflowError) as error:
        raise InvalidHeader(Header.TIMESTAMP, f"is {value[:80]!r}, not an RFC 3339 time") from error
    return value
