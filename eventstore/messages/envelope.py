"""The envelope every message travels in: who it is, what caused it, which story it belongs to.

The envelope is carried in headers; the payload is only data. An event to be written (`NewEvent`)
and an event that has been recorded (`RecordedEvent`) are two types.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from eventstore.errors import InvalidHeader, InvalidId, InvalidMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.subjects import AGGREGATE_ID, NAME
from eventstore.messages.types import Event

__all__ = [
    "AUTHENTICATED_AS",
    "COMMAND_DIGEST",
    "ID_DERIVED",
    "JSON",
    "NO_COMMAND",
    "POSITION",
    "REPLY_TO",
    "Envelope",
    "Header",
    "Identity",
    "LogEvent",
    "NewEvent",
    "RecordedEvent",
    "StoredEvent",
    "UnreadEvent",
    "check_message_id",
    "derive_id",
    "format_timestamp",
    "legal_value",
    "new_id",
    "parse_timestamp",
    "position_of",
    "utc_now",
]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_CANONICAL = re.compile(r"[0-9T:-]{19}\.[0-9]{6}Z")


class Header:
    """The names of the standard headers."""

    EVENT_ID = "X-Event-ID"
    EVENT_TYPE = "X-Event-Type"
    CORRELATION_ID = "X-Correlation-ID"
    CAUSATION_ID = "X-Causation-ID"
    AGGREGATE_ID = "X-Aggregate-ID"
    TIMESTAMP = "X-Timestamp"
    DOMAIN = "X-Domain"
    AGGREGATE_VERSION = "X-Aggregate-Version"
    SCHEMA_VERSION = "X-Schema-Version"
    CHAIN = "X-Chain"
    ACTOR = "X-Actor"
    TRACEPARENT = "traceparent"
    CONTENT_TYPE = "Content-Type"
    MESSAGE_ID = NatsHeader.MESSAGE_ID


JSON = "application/json"
"""The content type of all that this library writes."""

AUTHENTICATED_AS = "X-Authenticated-As"
"""The header of events that says who sent their command, according to the server."""

POSITION = "X-Position"
"""The header that holds an event's position in the log."""

REPLY_TO = "X-Reply-To"
"""The header that names the inbox to which the outcome of a command is to be sent."""

ID_DERIVED = "X-ID-Derived"
"""The header of commands that a handler sends, which may have other data under the same id."""

COMMAND_DIGEST = "X-Command-Digest"

NO_COMMAND = "none"
"""The digest of a fact that has a cause: no command has decided it."""

"""The header of events, and of outcomes, that tells their command from another of the same id."""

_REQUIRED = (
    Header.EVENT_ID,
    Header.EVENT_TYPE,
    Header.CORRELATION_ID,
    Header.CAUSATION_ID,
    Header.TIMESTAMP,
    Header.DOMAIN,
)
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # controls, and halves of pairs no bytes hold
_EDGE = rf"[^\s{_UNPRINTABLE}]"
_RULES: dict[str, tuple[re.Pattern[str], str]] = {
    Header.EVENT_ID: (_UUID, "a UUID in lower-case canonical form"),
    Header.CORRELATION_ID: (_UUID, "a UUID in lower-case canonical form"),
    Header.CAUSATION_ID: (_UUID, "a UUID in lower-case canonical form"),
    Header.EVENT_TYPE: (re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}"), "a type's name"),
    Header.TIMESTAMP: (_RFC_3339, "an RFC 3339 time"),
    Header.DOMAIN: (NAME, "a domain's name"),
    Header.AGGREGATE_ID: (AGGREGATE_ID, "1 to 128 of A-Z, a-z, 0-9, '_' and '-'"),
    Header.AGGREGATE_VERSION: (re.compile(r"[1-9][0-9]{0,17}"), "a whole number from 1"),
    Header.SCHEMA_VERSION: (re.compile(r"[1-9][0-9]{0,5}"), "a whole number from 1 to 999999"),
    Header.CHAIN: (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    Header.ACTOR: (
        re.compile(rf"{_EDGE}(?:[^{_UNPRINTABLE}]{{0,254}}{_EDGE})?"),
        "1 to 256 printable characters without space around them",
    ),
    AUTHENTICATED_AS: (
        re.compile(rf"{_EDGE}(?:[^{_UNPRINTABLE}]{{0,510}}{_EDGE})?"),
        "1 to 512 printable characters without space around them",
    ),
    COMMAND_DIGEST: (re.compile(r"none|[0-9a-f]{16}(?:-[0-9a-f]{32})?"), "a command's digest"),
    Header.TRACEPARENT: (
        re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
        "a W3C trace parent",
    ),
    Header.CONTENT_TYPE: (re.compile(r"application/json"), "application/json"),
}


def new_id() -> str:
    """A new random message id: a UUID in its canonical text form."""
    return str(uuid.uuid4())


def derive_id(parent_id: str, name: str) -> str:
    """The id that follows from a parent's id and a name, for ever the same (UUIDv5, RFC 9562)."""
    return str(uuid.uuid5(uuid.UUID(parent_id), name))


def check_message_id(value: str) -> str:
    """Return `value` if it is a UUID in canonical text form; raises `InvalidId` otherwise."""
    if not _UUID.fullmatch(value):
        raise InvalidId(f"message id {value[:80]!r} is not a UUID in lower-case canonical form")
    return value


def utc_now() -> datetime:
    """The time now, which knows its zone."""
    return datetime.now(UTC)


def format_timestamp(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds; `time` must know its zone."""
    if time.tzinfo is None:
        raise ValueError(f"time {time} has no zone")
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_timestamp(text: str) -> datetime:
    """Read any RFC 3339 time (digits below the microsecond are dropped).

    Raises `ValueError` where it is none.
    """
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not an RFC 3339 time")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:  # its offset leads out of the years there are
        raise ValueError(f"{text[:80]!r}: {error}") from error


class Identity(Struct, frozen=True):
    """Who a message is: its own id, the story it belongs to, and the message that caused it.

    A root's three ids are equal.
    """

    id: str
    correlation_id: str
    causation_id: str

    @classmethod
    def root(cls, message_id: str | None = None) -> Identity:
        """The start of a new story; raises `InvalidId` for an id that is not a UUID."""
        own = new_id() if message_id is None else check_message_id(message_id)
        return cls(own, own, own)

    @classmethod
    def caused_by(cls, parent: Identity, message_id: str | None = None) -> Identity:
        """A message that `parent` caused: a new id, the same story, the parent named.

        Raises `InvalidId` for an id that is not a UUID, or is the parent's or the story's own.
        """
        own = new_id() if message_id is None else check_message_id(message_id)
        if own in (parent.id, parent.correlation_id):
            raise InvalidId(f"message {own} cannot have caused itself")
        return cls(own, parent.correlation_id, parent.id)


class Envelope(Struct, frozen=True, kw_only=True):
    """All that is known of a message besides its data.

    `timestamp` is RFC 3339 text in UTC with microseconds; `version` and `chain` are of recorded
    events only, and so is `command_digest`, which tells the command they follow from another of
    the same id. `actor` is whom the sender claims to act for; `authenticated_as` is who sent the
    command according to the server, where it says so.
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
            Header.CONTENT_TYPE: JSON,
            Header.MESSAGE_ID: identity.id,
        }
        if self.aggregate_id is not None:
            headers[Header.AGGREGATE_ID] = self.aggregate_id
        if self.version is not None:
            headers[Header.AGGREGATE_VERSION] = str(self.version)
        if self.chain is not None:
            headers[Header.CHAIN] = self.chain
        if self.actor is not None:
            headers[Header.ACTOR] = self.actor
        if self.authenticated_as is not None:
            headers[AUTHENTICATED_AS] = self.authenticated_as
        if self.command_digest is not None:
            headers[COMMAND_DIGEST] = self.command_digest
        if self.traceparent is not None:
            headers[Header.TRACEPARENT] = self.traceparent
        _check(headers)
        _canonical_time(self.timestamp)
        return headers

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Envelope:
        """Read an envelope; raises `InvalidHeader`, naming the header, for what is not legal.

        Headers that are not part of the envelope are ignored. Times are normalised to UTC.
        """
        _check(headers)
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
        )


class NewEvent(Struct, frozen=True, kw_only=True):
    """An event to be written.

    With an `identity` of the caller's own, derived before the first try and never again, a repeat
    of the append is recognised for ever; without one, each call makes new ids.
    """

    data: Event
    identity: Identity | None = None
    timestamp: datetime | None = None
    actor: str | None = None
    traceparent: str | None = None


class StoredEvent(Struct, frozen=True, kw_only=True):
    """What is known of an event in the log, whether or not its payload can be read.

    `position` is its sequence in the log stream; `envelope`, `headers` and `payload` are as stored,
    and `envelope.type` is the name of the type it was written as.
    """

    envelope: Envelope
    aggregate: str
    aggregate_id: str
    version: int
    position: int
    headers: Mapping[str, str]
    payload: bytes

    @property
    def id(self) -> str:
        """The event's own id."""
        return self.envelope.identity.id

    @property
    def correlation_id(self) -> str:
        """The id of the root message of the whole story."""
        return self.envelope.identity.correlation_id

    @property
    def causation_id(self) -> str:
        """The id of the message, usually a command, that caused this event."""
        return self.envelope.identity.causation_id

    @property
    def time(self) -> datetime:
        """When it was decided, in UTC."""
        return parse_timestamp(self.envelope.timestamp)


class RecordedEvent(StoredEvent, frozen=True, kw_only=True):
    """An event that stands in the log and was read.

    `data` is of a class of today; where the stored event is of an older schema and is read as
    several, these are its parts 0, 1, 2 and so on, alike in all but `data` and `part`.
    """

    data: Event
    part: int = 0

    @property
    def type(self) -> str:
        """The name of the type it is read as; `envelope.type` is the one it was written as."""
        return type(self.data).__name__

    @property
    def is_upcast(self) -> bool:
        """Whether it was written as another type, or with another schema version."""
        cls = type(self.data)
        written = self.envelope.type, self.envelope.schema_version
        return written != (cls.__name__, cls.__schema_version__)


class UnreadEvent(StoredEvent, frozen=True, kw_only=True):
    """An event that stands in the log and has no data: it is read as nothing, or cannot be read.

    `error` is why it cannot be read; None where nothing is missed: an upcaster drops it, or its
    type is unknown and such are skipped. `types` are those it could have been read as, None where
    that cannot be known.
    """

    error: InvalidMessage | None = None
    types: frozenset[type[Event]] | None = None

    @property
    def type(self) -> str:
        """The name of the type it was written as."""
        return self.envelope.type


LogEvent = RecordedEvent | UnreadEvent
"""What a reader of the whole log comes upon."""


def legal_value(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a standard header where there is one that is legal by itself; None if not."""
    value = headers.get(name)
    pattern, _ = _RULES[name]
    return value if value is not None and pattern.fullmatch(value) else None


# All rules as one pattern over the values in their order, a line each: the usual case, that
# everything is legal, is seen in one match. No legal value holds a line break.
_ALL_LEGAL = re.compile(
    "\n".join(
        f"={pattern.pattern}" if name in _REQUIRED else f"(?:={pattern.pattern})?"
        for name, (pattern, _) in _RULES.items()
    )
)


def _check(headers: Mapping[str, str]) -> None:
    values = ["=" + headers[name] if name in headers else "" for name in _RULES]
    if not _ALL_LEGAL.fullmatch("\n".join(values)):
        _refuse(headers)
    _check_identity(headers)


def _refuse(headers: Mapping[str, str]) -> None:
    """Name the header that is not legal."""
    for name in _REQUIRED:
        if name not in headers:
            raise InvalidHeader(name, "is missing")
    for name, (pattern, meaning) in _RULES.items():
        value = headers.get(name)
        if value is not None and not pattern.fullmatch(value):
            raise InvalidHeader(name, f"is {value[:80]!r}, not {meaning}")


def _canonical_time(value: str) -> str:
    """An RFC 3339 time in UTC with microseconds; raises `InvalidHeader` for no such day or hour."""
    try:
        if not _CANONICAL.fullmatch(value):
            return format_timestamp(parse_timestamp(value))
        datetime.fromisoformat(value)
    except (ValueError, OverflowError) as error:
        raise InvalidHeader(Header.TIMESTAMP, f"is {value[:80]!r}, not an RFC 3339 time") from error
    return value


def _check_identity(headers: Mapping[str, str]) -> None:
    own = headers[Header.EVENT_ID]
    if headers.get(Header.MESSAGE_ID, own) != own:
        raise InvalidHeader(
            Header.MESSAGE_ID, f"is {headers[Header.MESSAGE_ID][:80]!r}, not the {Header.EVENT_ID}"
        )
    if (headers[Header.CAUSATION_ID] == own) != (headers[Header.CORRELATION_ID] == own):
        raise InvalidHeader(
            Header.CAUSATION_ID,
            f"and {Header.CORRELATION_ID} disagree: a root's three ids are equal, no other's are",
        )


def position_of(headers: Mapping[str, str]) -> int | None:
    """The log position that a published event carries; None where it carries none."""
    text = headers.get(POSITION, "")
    return int(text) if text.isdecimal() and len(text) < 20 else None
