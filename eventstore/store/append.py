"""Appends: the expectation, the events with their ids, and the result."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import repeat

import msgspec
from msgspec.structs import replace

from eventstore.errors import InvalidHeader, InvalidId, InvalidMessage
from eventstore.jetstream.publish import Draft, guard_line
from eventstore.messages.chain import chained_optional
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import PERSONAL, Keys, seal, subjects_in
from eventstore.messages.envelope import (
    Envelope,
    Identity,
    derive_id,
    format_timestamp,
    new_id,
    optional_lines,
)
from eventstore.messages.event_template import EncodedEvent, EventTemplate
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import JSON, NO_COMMAND, Header
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.opaque_headers import header_lines
from eventstore.messages.personal import PersonalField
from eventstore.messages.subjects import AggregateId
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


class Append(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class AppendResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class PendingAppend:
    """One `Append` in progress: its encoded events, its base, and its result once recorded.

    Personal data must be encrypted by `seal`, with the keys of `data_subjects`, before it is sent.
    What the append has for the envelopes is checked, unless it `is_checked`.
    """

    __slots__ = (
        "_chain",
        "_encoded",
        "_personal",
        "aggregate_id",
        "append",
        "base",
        "end",
        "event_ids",
        "events",
        "may_be_repeat",
        "result",
        "subject",
    )

    def __init__(
        self, append: Append, codec: Codec, now: datetime, *, is_checked: bool = False
    ) -> None:
        codec.check_aggregate(append.aggregate)
        if not isinstance(append.expected, _EXPECTED):
            raise _no_expectation(append)
        self.append = append
        self._chain = ""
        self.subject = codec.subjects.log(append.aggregate, append.aggregate_id)
        self.aggregate_id = str(append.aggregate_id)
        self.events: list[Event] = []
        """The events as they will be read."""
        self.may_be_repeat = append.cause is not None and not append.known_new
        """Whether the caller has chosen the ids, and so may have sent them before."""
        self._encoded: list[EncodedEvent] = []
        self._personal: dict[int, tuple[Event, tuple[PersonalField, ...]]] = {}  # by index
        encoder = _EventEncoder(append, self.subject, codec, now, is_checked=is_checked)
        for index, event in enumerate(append.events):
            if isinstance(event, NewEvent):
                data, own = event.data, event
                self.may_be_repeat |= event.identity is not None and not append.known_new
            else:
                data, own = event, None
            encoded, as_read = encoder.encode(index, data, own)
            self._encoded.append(encoded)
            self.events.append(as_read)
            if fields := codec.personal_fields(type(data)):
                self._personal[index] = data, fields
        self.event_ids = tuple([each.identity.id for each in self._encoded])
        self.base: Head = NOTHING
        self.end = 0  # the last message on the subject: foreign ones may follow the base
        self.result: AppendResult | None = None
        if not self.event_ids:
            raise InvalidMessage(
                f"append to {append.aggregate} {self.aggregate_id}: no events are given"
            )
        if len(self.event_ids) > 1 and len(set(self.event_ids)) < len(self.event_ids):
            raise InvalidId(
                f"append to {append.aggregate} {self.aggregate_id}: an id repeats; "
                "each event needs its own"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether the caller named the base."""
        expected = self.append.expected
        return isinstance(expected, Head) or expected is NO_STREAM

    def begin_at(self, found: FoundHead) -> None:
        """Append the events after this head."""
        self.base, self.end = found.head, found.end

    @property
    def has_personal(self) -> bool:
        """Whether any of the events has personal data."""
        return bool(self._personal)

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
            self._encoded[index] = _sealed(self._encoded[index], event, fields, keys)

    def drafts(self, batch: Iterable[str] = repeat("")) -> list[Draft]:
        """The events as messages that follow the base, which guards the first of them.

        Each also has the next lines of the `batch`.
        """
        version, chain, guard = self.base.version, self.base.chain, guard_line(self.end)
        drafts = []
        for each, more in zip(self._encoded, batch, strict=False):
            version += 1
            lines, chain = each.written(chain, version)
            lines = f"{lines}{more}{guard}"
            drafts.append(Draft(self.subject, lines, each.payload, each.template.name))
            guard = ""
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


_EXPECTED = int, Head, Expectation

_Attributes = tuple[str, str, str]
"""The timestamp and what else events of an append may have in common; see `EncodedEvent`."""

_NOTHING = (None,) * 7
_NOTHING_CHAINED = chained_optional(None, None, None)


class _EventEncoder:
    """Encodes the events of one append.

    What comes from the caller as it is, is checked, unless it `is_checked`.
    """

    __slots__ = ("_aggregate_id", "_append", "_codec", "_is_checked", "_now", "_subject", "_usual")

    def __init__(
        self, append: Append, subject: str, codec: Codec, now: datetime, *, is_checked: bool
    ) -> None:
        self._append = append
        self._subject = subject
        self._aggregate_id = str(append.aggregate_id)
        self._codec = codec
        self._now = now
        self._is_checked = is_checked
        self._usual: _Attributes | None = None

    def encode(self, index: int, data: Event, own: NewEvent | None) -> tuple[EncodedEvent, Event]:
        """The event of this index, and what it will be read as; `own` is what it has of its own."""
        opaque = data if isinstance(data, OpaqueEvent) else None
        template = self._template(type(data)) if opaque is None else self._template_of(opaque)
        identity = (own and own.identity) or self._identity(index)
        attributes = self._usual
        is_usual = own is None and opaque is None
        if not is_usual or attributes is None or self._is_circular(identity):
            attributes = self._attributes(own, identity, template.name, opaque)
        if is_usual:
            self._usual = attributes
        payload, as_read = self._codec.round_trip(data)
        encoded = EncodedEvent(
            template, self._subject, self._aggregate_id, identity, *attributes, payload
        )
        return encoded, as_read

    def _identity(self, index: int) -> Identity:
        cause = self._append.cause
        if cause is None:
            own = new_id()
            return Identity(own, own, own)
        name = f"{self._append.aggregate}.{self._aggregate_id}.{index}"
        return Identity(derive_id(cause.id, name), cause.correlation_id, cause.id)

    def _is_circular(self, identity: Identity) -> bool:
        """Whether a derived id is among those it is derived from, which its check refuses."""
        cause = self._append.cause
        return cause is not None and identity.id in (cause.id, cause.correlation_id)

    def _template(self, cls: type[Event]) -> EventTemplate:
        template = self._codec.template(cls)
        if cls.__aggregate__ != self._append.aggregate:
            raise InvalidMessage(f"{cls.__name__} is not an event of {self._append.aggregate}")
        return template

    def _template_of(self, opaque: OpaqueEvent) -> EventTemplate:
        self._codec.check_opaque(opaque)
        version = opaque.__schema_version__
        return EventTemplate(
            self._codec.domain, opaque.type, version, opaque.content_type, is_opaque=True
        )

    def _attributes(
        self, own: NewEvent | None, identity: Identity, name: str, opaque: OpaqueEvent | None
    ) -> _Attributes:
        append = self._append
        time = _timestamp((own and own.timestamp) or self._now)
        actor = (own and own.actor) or append.actor
        traceparent = (own and own.traceparent) or append.traceparent
        sender = append.authenticated_as
        # The mark of a fact that has a cause, which tells it from a command's event.
        no_command = NO_COMMAND if identity.causation_id != identity.id else None
        digest = append.command_digest or no_command
        from_caller = own, append.cause, actor, sender, digest, traceparent, opaque
        if from_caller == _NOTHING:
            return time, "", _NOTHING_CHAINED
        content_type = JSON if opaque is None else opaque.content_type
        headers = None if opaque is None else opaque.own_headers
        if not self._is_checked:
            Envelope(
                identity=identity,
                type=name,
                domain=self._codec.domain,
                timestamp=time,
                aggregate_id=self._aggregate_id,
                actor=actor,
                authenticated_as=sender,
                command_digest=digest,
                traceparent=traceparent,
                content_type=content_type,
                opaque=headers,
            ).to_headers()
        optional = optional_lines(actor, sender, digest, traceparent) + header_lines(headers)
        return time, optional, chained_optional(actor, sender, traceparent, content_type, headers)


def _sealed(
    encoded: EncodedEvent, event: Event, fields: tuple[PersonalField, ...], keys: Keys
) -> EncodedEvent:
    """The same with its personal data encrypted; raises `SubjectForgotten`."""
    headers = {
        Header.EVENT_ID: encoded.identity.id,
        Header.EVENT_TYPE: encoded.template.name,
        Header.AGGREGATE_ID: encoded.aggregate_id,
    }
    payload, headers = seal(event, encoded.payload, headers, fields, keys)
    names = headers.get(PERSONAL)
    added = "" if names is None else f"{PERSONAL}: {names}\r\n"
    return replace(encoded, payload=payload, optional=encoded.optional + added)


def _no_expectation(append: Append) -> InvalidMessage:
    return InvalidMessage(
        f"append to {append.aggregate} {append.aggregate_id}: {append.expected!r:.80} cannot "
        "be expected: a version, a head, NO_STREAM, STREAM_EXISTS or ANY can"
    )


def _timestamp(time: datetime) -> str:
    try:
        return format_timestamp(time)
    except (ValueError, OverflowError) as error:
        raise InvalidHeader(Header.TIMESTAMP, f"cannot be {time}: {error}") from error
