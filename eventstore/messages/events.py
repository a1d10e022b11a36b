"""Events with their envelopes: to be written, recorded, and recorded but not decoded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from eventstore.errors import InvalidMessage
from eventstore.messages.envelope import Envelope, Identity, parse_timestamp
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.types import Event

_parsed = lru_cache(maxsize=2048)(parse_timestamp)  # several handlers need that of the same event


class NewEvent(Struct, frozen=True, kw_only=True):
    """An event to be appended.

    With an `identity` of the caller's own, made once before the first attempt, a repeated append is
    recognised for ever; without one, each call makes new ids.
    """

    data: Event
    identity: Identity | None = None
    timestamp: datetime | None = None
    actor: str | None = None
    traceparent: str | None = None


class StoredEvent(Struct, frozen=True, kw_only=True, gc=False):
    """An event in the log, whether or not its payload can be decoded.

    `position` is its sequence in the log stream; `envelope`, `headers` and `payload` are as stored,
    and `envelope.type` is the name of the type it was written as. `stored_ns` is when the server
    stored it, in nanoseconds of the Unix epoch, 0 if that is not known. The garbage collector does
    not see recorded events, which saves readers a tenth: a cycle of references through the data of
    one is never freed.
    """

    envelope: Envelope
    aggregate: str
    aggregate_id: str
    version: int
    position: int
    headers: Mapping[str, str]
    payload: bytes
    stored_ns: int = 0

    @property
    def stored_at(self) -> datetime | None:
        """When the server stored it, in UTC, by its own clock; None if that is not known.

        It is known of events that were read from the log, not of those from the event stream. An
        imported event was stored when it was imported.
        """
        if not self.stored_ns:
            return None
        seconds, nanoseconds = divmod(self.stored_ns, 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)

    @property
    def id(self) -> str:
        """The event's own id."""
        return self.envelope.identity.id

    @property
    def correlation_id(self) -> str:
        """The id of the root message of the correlation."""
        return self.envelope.identity.correlation_id

    @property
    def causation_id(self) -> str:
        """The id of the message, usually a command, that caused this event."""
        return self.envelope.identity.causation_id

    @property
    def time(self) -> datetime:
        """The time at which it was decided, in UTC."""
        return _parsed(self.envelope.timestamp)


class RecordedEvent(StoredEvent, frozen=True, kw_only=True, gc=False):
    """An event in the log that was decoded.

    `data` is of a current class, or an `OpaqueEvent`; if the stored event is of an older schema and
    is converted to several events, these are its parts 0, 1, 2 and so on, equal in all but `data`
    and `part`.
    """

    data: Event
    part: int = 0

    @property
    def type(self) -> str:
        """The name of the type it is read as; `envelope.type` is the one it was written as."""
        cls = type(self.data)
        return self.envelope.type if cls is OpaqueEvent else cls.__name__

    @property
    def is_upcast(self) -> bool:
        """Whether it was written as another type, or with another schema version."""
        cls = type(self.data)
        if cls is OpaqueEvent:
            return False
        written = self.envelope.type, self.envelope.schema_version
        return written != (cls.__name__, cls.__schema_version__)


_EventTypes = frozenset[type[Event]]  # inside the class, `type` is its property


class UnreadEvent(StoredEvent, frozen=True, kw_only=True, gc=True):
    """An event in the log without data: it is converted to nothing, or cannot be decoded.

    `error` is the reason; None if nothing is missed: an upcaster drops the event, or its type is
    unknown and such events are skipped. `types` are those it may be converted to, None if that
    cannot be known.
    """

    error: InvalidMessage | None = None
    types: _EventTypes | None = None

    @property
    def type(self) -> str:
        """The name of the type it was written as."""
        return self.envelope.type

    def as_opaque(self) -> RecordedEvent:
        """The event with its payload as it is, as an `OpaqueEvent`."""
        return RecordedEvent(
            envelope=self.envelope,
            aggregate=self.aggregate,
            aggregate_id=self.aggregate_id,
            version=self.version,
            position=self.position,
            headers=self.headers,
            payload=self.payload,
            stored_ns=self.stored_ns,
            data=OpaqueEvent.of(self.envelope, self.payload),
        )


LogEvent = RecordedEvent | UnreadEvent
"""An item of the log, with or without data."""
