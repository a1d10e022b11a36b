"""Appends: the expectation, the events with their ids, and the result."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime

import msgspec

from eventstore.errors import InvalidHeader, InvalidId, InvalidMessage
from eventstore.jetstream.publish import Draft
from eventstore.messages.chain import ChainedEvent
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import PERSONAL, Keys, seal, subjects_in
from eventstore.messages.envelope import Envelope, Identity, derive_id, format_timestamp
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import JSON, NO_COMMAND, Header
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.personal import PersonalField
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Event
from eventstore.store.head import NOTHING, FoundHead, Head


class Expectation(enum.Enum):
    """A named expectation."""

    NO_STREAM = "no_stream"
    STREAM_EXISTS = "stream_exists"
    ANY = "any"


NO_STREAM = Expectation.NO_STREAM
"""The aggregate must have no events yet."""

STREAM_EXISTS = Expectation.STREAM_EXISTS
"""The aggregate must have events, and may be at any version."""

ANY = Expectation.ANY
"""The aggregate may be at any version."""


Expected = int | Head | Expectation
"""A version (0: no events), a head (saves a round trip if the store knows it), `NO_STREAM`,
`STREAM_EXISTS` or `ANY`."""

ANY_VERSION = (ANY, STREAM_EXISTS)
"""The expectations that others' events do not violate."""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Events to be appended to one aggregate.

    `cause` is the identity of the message that they follow from: their ids are then derived from
    it, from the aggregate and from their order, so that a repeat is recognised for ever.
    `known_new`: the caller has read the aggregate up to `expected` itself and found none of these
    ids there, which saves the search for them. `authenticated_as`, `command_digest` and
    `traceparent` are recorded with each event (see `Envelope`).
    """

    aggregate: str
    aggregate_id: AggregateId
    events: Sequence[Event | NewEvent]
    expected: Expected = ANY
    cause: Identity | None = None
    actor: str | None = None
    known_new: bool = False
    authenticated_as: str | None = None
    command_digest: str | None = None
    traceparent: str | None = None


class AppendResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an append for one aggregate.

    `head` is the aggregate's head after these events, though others may have followed since;
    `positions` are the events' sequences in the log. `duplicate`: they had been recorded before.
    """

    aggregate: str
    aggregate_id: str
    head: Head
    event_ids: tuple[str, ...]
    positions: tuple[int, ...]
    duplicate: bool

    @property
    def version(self) -> int:
        """The aggregate's version after the last of these events."""
        return self.head.version

    @property
    def position(self) -> int:
        """The position of the last of these events, which a reader must have reached."""
        return self.positions[-1]


class _Encoded:
    """An event that has all but its version and its chain value."""

    __slots__ = ("_envelope", "_lines", "_payload", "chained")

    def __init__(self, subject: str, envelope: Envelope, payload: bytes, added: str = "") -> None:
        self._envelope = envelope
        self._lines = envelope.event_lines() + added
        self._payload = payload
        self.chained = ChainedEvent(subject, envelope, payload)

    @property
    def event_id(self) -> str:
        return self._envelope.identity.id

    def sealed(
        self, subject: str, event: Event, fields: tuple[PersonalField, ...], keys: Keys
    ) -> _Encoded:
        """The same with its personal data encrypted; raises `SubjectForgotten`."""
        payload, headers = seal(event, self._payload, self._envelope.to_headers(), fields, keys)
        names = headers.get(PERSONAL)
        added = "" if names is None else f"{PERSONAL}: {names}\r\n"
        return _Encoded(subject, self._envelope, payload, added)

    def draft(self, subject: str, version: int, chain: str) -> Draft:
        """The event as a message."""
        lines = f"{self._lines}{Header.AGGREGATE_VERSION}: {version}\r\n{Header.CHAIN}: {chain}\r\n"
        return Draft(subject, lines, self._payload, self._envelope.type)


class PendingAppend:
    """One `Append` in progress: its encoded events, its base, and its result once recorded.

    Personal data must be encrypted by `seal`, with the keys of `data_subjects`, before it is sent.
    What the append has for the envelopes is checked, unless it `is_checked`.
    """

    def __init__(
        self, append: Append, codec: Codec, now: datetime, *, is_checked: bool = False
    ) -> None:
        codec.check_aggregate(append.aggregate)
        _check_expectation(append)
        self.append = append
        self._is_checked = is_checked
        self._chain = ""
        self.aggregate_id = check_aggregate_id(append.aggregate_id)
        self.subject = codec.subjects.log(append.aggregate, self.aggregate_id)
        self.events: list[Event] = []
        """The events as they will be read."""
        self._encoded: list[_Encoded] = []
        self._personal: dict[int, tuple[Event, tuple[PersonalField, ...]]] = {}  # by index
        for index, event in enumerate(append.events):
            new = event if isinstance(event, NewEvent) else NewEvent(data=event)
            envelope = self._envelope(new, index, codec, now)
            payload, as_read = codec.round_trip(new.data)
            self._encoded.append(_Encoded(self.subject, envelope, payload))
            self.events.append(as_read)
            if fields := codec.personal_fields(type(new.data)):
                self._personal[index] = new.data, fields
        self.event_ids = tuple([each.event_id for each in self._encoded])
        self.base: Head = NOTHING
        self.end = 0  # the last message on the subject: foreign ones may follow the base
        self.result: AppendResult | None = None
        if not self.event_ids:
            raise InvalidMessage(
                f"append to {append.aggregate} {self.aggregate_id}: no events are given"
            )
        if len(set(self.event_ids)) < len(self.event_ids):
            raise InvalidId(
                f"append to {append.aggregate} {self.aggregate_id}: an id repeats; "
                "each event needs its own"
            )

    @property
    def may_be_repeat(self) -> bool:
        """Whether the caller has chosen the ids, and so may have sent them before."""
        if self.append.known_new:
            return False
        given = any(isinstance(e, NewEvent) and e.identity for e in self.append.events)
        return given or self.append.cause is not None

    @property
    def is_fixed(self) -> bool:
        """Whether the caller named the base."""
        expected = self.append.expected
        return isinstance(expected, Head) or expected is NO_STREAM

    def begin_at(self, found: FoundHead) -> None:
        """Append the events after this head."""
        self.base, self.end = found.head, found.end

    @property
    def data_subjects(self) -> set[str]:
        """The subjects of the events' personal data; raises `InvalidPayload`."""
        subjects: set[str] = set()
        for event, fields in self._personal.values():
            subjects |= subjects_in(event, fields, self.aggregate_id)
        return subjects

    def seal(self, keys: Keys) -> None:
        """Encrypt the personal data; raises `SubjectForgotten`."""
        for index, (event, fields) in self._personal.items():
            self._encoded[index] = self._encoded[index].sealed(self.subject, event, fields, keys)

    def drafts(self) -> list[Draft]:
        """The events as messages that follow the base."""
        version, chain = self.base.version, self.base.chain
        drafts = []
        for each in self._encoded:
            version += 1
            chain = each.chained.value(chain, version)
            drafts.append(each.draft(self.subject, version, chain))
        self._chain = chain
        return drafts

    def recorded_at(self, last: int) -> Head:
        """Set the result: the events of the last `drafts` are recorded, the last at this position.

        Their positions have no gaps. Returns the head after them.
        """
        count = len(self.event_ids)
        head = Head(last, self.base.version + count, self._chain, self.event_ids[-1])
        self.recorded(head, range(last - count + 1, last + 1), duplicate=False)
        return head

    def recorded(self, head: Head, positions: Sequence[int], *, duplicate: bool) -> AppendResult:
        """Set the result: the events are recorded."""
        self.result = AppendResult(
            aggregate=self.append.aggregate,
            aggregate_id=self.aggregate_id,
            head=head,
            event_ids=self.event_ids,
            positions=tuple(positions),
            duplicate=duplicate,
        )
        return self.result

    def _envelope(self, new: NewEvent, index: int, codec: Codec, now: datetime) -> Envelope:
        cls, append, data = type(new.data), self.append, new.data
        opaque = data if isinstance(data, OpaqueEvent) else None
        if opaque is not None:
            codec.check_opaque(opaque)
        else:
            codec.check_event_type(cls)
            if cls.__aggregate__ != append.aggregate:
                raise InvalidMessage(f"{cls.__name__} is not an event of {append.aggregate}")
        identity = new.identity or self._identity(index)
        # The mark of a fact that has a cause, which tells it from a command's event.
        no_command = NO_COMMAND if identity.causation_id != identity.id else None
        envelope = Envelope(
            identity=identity,
            type=cls.__name__ if opaque is None else opaque.type,
            domain=codec.domain,
            timestamp=_timestamp(new.timestamp or now),
            aggregate_id=self.aggregate_id,
            schema_version=cls.__schema_version__,
            actor=new.actor or append.actor,
            authenticated_as=append.authenticated_as,
            command_digest=append.command_digest or no_command,
            traceparent=new.traceparent or append.traceparent,
            content_type=JSON if opaque is None else opaque.content_type,
            opaque=None if opaque is None else opaque.own_headers,
        )
        if not self._is_checked:
            envelope.to_headers()
        return envelope

    def _identity(self, index: int) -> Identity:
        cause = self.append.cause
        if cause is None:
            return Identity.root()
        name = f"{self.append.aggregate}.{self.aggregate_id}.{index}"
        return Identity(derive_id(cause.id, name), cause.correlation_id, cause.id)


def _check_expectation(append: Append) -> None:
    if not isinstance(append.expected, int | Head | Expectation):
        raise InvalidMessage(
            f"append to {append.aggregate} {append.aggregate_id}: {append.expected!r:.80} cannot "
            "be expected: a version, a head, NO_STREAM, STREAM_EXISTS or ANY can"
        )


def _timestamp(time: datetime) -> str:
    try:
        return format_timestamp(time)
    except (ValueError, OverflowError) as error:
        raise InvalidHeader(Header.TIMESTAMP, f"cannot be {time}: {error}") from error
