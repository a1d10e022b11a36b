"""What an append is made of: the expectation, the events with ids fixed once, and the result."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime

import msgspec

from eventstore.errors import InvalidHeader, InvalidId, InvalidMessage, UnreadableEvent
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.publish import Draft
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import Keys, seal, subjects_in
from eventstore.messages.envelope import (
    NO_COMMAND,
    Envelope,
    Header,
    Identity,
    NewEvent,
    RecordedEvent,
    derive_id,
    format_timestamp,
)
from eventstore.messages.personal import PersonalField
from eventstore.messages.types import Event
from eventstore.store.chain_links import Link, Links, follow

__all__ = [
    "ANY",
    "NOTHING",
    "NO_STREAM",
    "Append",
    "Appended",
    "Expected",
    "FoundHead",
    "Head",
    "HeadWalk",
    "PendingAppend",
    "find_head",
]


class Expectation(enum.Enum):
    """An expectation that has a name instead of a number."""

    NO_STREAM = "no_stream"
    ANY = "any"


NO_STREAM = Expectation.NO_STREAM
"""The aggregate must have no events yet."""

ANY = Expectation.ANY
"""The aggregate may be at any version."""


class Head(msgspec.Struct, frozen=True):
    """Where an aggregate stands: the position, version, chain value and id of its last event."""

    position: int
    version: int
    chain: str
    event_id: str

    @classmethod
    def of(cls, message: StoredMessage) -> Head:
        """The head that a stored event makes; raises `UnreadableEvent`."""
        headers = message.headers
        try:
            return cls(
                message.sequence,
                int(headers[Header.AGGREGATE_VERSION]),
                headers[Header.CHAIN],
                headers[Header.EVENT_ID],
            )
        except (KeyError, ValueError):
            cause = InvalidHeader(Header.AGGREGATE_VERSION, "or the chain or id is missing")
            raise UnreadableEvent(message.sequence, message.subject, cause) from None

    @classmethod
    def after(cls, event: RecordedEvent) -> Head:
        """The head after an event that was read."""
        chain = event.envelope.chain or GENESIS
        return cls(event.position, event.version, chain, event.id)

    def stands_in(self, message: StoredMessage) -> bool:
        """Whether a stored message is the event that this head names."""
        try:
            return Head.of(message) == self
        except UnreadableEvent:
            return False


NOTHING = Head(0, 0, GENESIS, "")
"""The head of an aggregate without events."""


class FoundHead(msgspec.Struct, frozen=True):
    """An aggregate's head, and the position of the last message on its subject.

    They differ where foreign messages follow the last event.
    """

    head: Head
    end: int


class HeadWalk:
    """Where an aggregate stands, found by going through its messages from a known head on."""

    def __init__(self, head: Head = NOTHING) -> None:
        self.head = head
        self.end = head.position
        self._links = Links(Link(head.version, head.chain, head.position))

    @property
    def found(self) -> FoundHead:
        """The head so far."""
        return FoundHead(self.head, self.end)

    def see(self, message: StoredMessage) -> bool:
        """Take the next message; whether it is the aggregate's next event."""
        self.end = message.sequence
        followed = follow(self._links, message)
        is_next = followed.links.head.version > self._links.head.version
        self._links = followed.links
        if is_next:
            self.head = Head.of(message)
        return is_next


async def find_head(
    reader: DirectReader, subject: str, *, leader: bool = False, known: Head | None = None
) -> FoundHead:
    """Where an aggregate stands; `known` is where it stood.

    One request where the last message is the known one's or follows on it, and another for the
    message before it where that is to bear it out; else the whole aggregate is read.
    """
    last = await (reader.leader_last(subject) if leader else reader.last(subject))
    if last is None:
        return FoundHead(NOTHING, 0)
    if known is not None and known.stands_in(last):
        return FoundHead(known, last.sequence)
    if known is not None and (walk := HeadWalk(known)).see(last):
        return walk.found
    before = await _head_before(reader, last)
    if before is not None and (walk := HeadWalk(before)).see(last):
        return walk.found
    walk = HeadWalk()
    async for message in reader.messages(subject):
        walk.see(message)
    return walk.found


async def _head_before(reader: DirectReader, message: StoredMessage) -> Head | None:
    """The head that the message before one makes on its subject; None where that is no event."""
    until = message.sequence - 1
    found = await reader.last_of_each([message.subject], until) if until else []
    try:
        return Head.of(found[0]) if found else NOTHING
    except UnreadableEvent:
        return None


Expected = int | Head | Expectation
"""A version, a whole head (saves a round trip where the store knows it), `NO_STREAM` or `ANY`."""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Events to be appended to one aggregate.

    `cause` is the identity of the message they follow from: their ids are then derived from it,
    from the aggregate and from their order, so that a repeat is recognised for ever. `known_new`:
    the caller has read the aggregate up to `expected` itself and found none of these ids there,
    which saves looking for them. `authenticated_as` and `command_digest` are recorded with each
    event (see `Envelope`).
    """

    aggregate: str
    aggregate_id: str
    events: Sequence[Event | NewEvent]
    expected: Expected = ANY
    cause: Identity | None = None
    actor: str | None = None
    known_new: bool = False
    authenticated_as: str | None = None
    command_digest: str | None = None


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """What an append has led to for one aggregate.

    `head` is the aggregate's head after these events, though others may have followed since;
    `positions` are the events' places in the log. `duplicate`: they had been recorded before.
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
        """The position of the last of these events: what a reader must have reached."""
        return self.positions[-1]


class PendingAppend:
    """One `Append` on its way: its events fixed, its base found, its result once recorded.

    What holds personal data is to be sealed, with the keys of its `data_subjects`, before it goes.
    """

    def __init__(self, append: Append, codec: Codec, now: datetime) -> None:
        codec.check_aggregate(append.aggregate)
        self.append = append
        self.subject = codec.subjects.log(append.aggregate, append.aggregate_id)
        self._fixed = [  # but for their versions and chain values
            _fix(append, event, index, codec, now) for index, event in enumerate(append.events)
        ]
        self.event_ids = tuple(headers[Header.EVENT_ID] for headers, _ in self._fixed)
        self._personal = _personal_in(append, codec)
        self.base: Head = NOTHING
        self.end = 0  # the last message on the subject, where foreign ones follow the base
        self.result: Appended | None = None
        if not self.event_ids:
            raise InvalidMessage(f"append to {append.aggregate} {append.aggregate_id}: no events")
        if len(set(self.event_ids)) < len(self.event_ids):
            raise InvalidId(f"append to {append.aggregate} {append.aggregate_id}: an id repeats")

    @property
    def may_be_repeat(self) -> bool:
        """Whether the ids come from the caller, who may have sent them before."""
        if self.append.known_new:
            return False
        given = any(isinstance(e, NewEvent) and e.identity for e in self.append.events)
        return given or self.append.cause is not None

    def begin_at(self, found: FoundHead) -> None:
        """Let the events follow on this head."""
        self.base, self.end = found.head, found.end

    @property
    def data_subjects(self) -> set[str]:
        """Whom the events hold personal data about; raises `InvalidPayload`."""
        subjects: set[str] = set()
        for event, fields in self._personal.values():
            subjects |= subjects_in(event, fields, self.append.aggregate_id)
        return subjects

    def seal(self, keys: Keys) -> None:
        """Encrypt the personal data; raises `SubjectForgotten`."""
        for index, (event, fields) in self._personal.items():
            headers, payload = self._fixed[index]
            payload, headers = seal(event, payload, headers, fields, keys)
            self._fixed[index] = headers, payload

    def drafts(self) -> list[Draft]:
        """The events as messages that follow on the base."""
        version, chain = self.base.version, self.base.chain
        drafts = []
        for fixed, payload in self._fixed:
            version += 1
            headers = {**fixed, Header.AGGREGATE_VERSION: str(version)}
            chain = chain_value(chain, self.subject, headers, payload)
            headers[Header.CHAIN] = chain
            drafts.append(Draft(self.subject, headers, payload, headers[Header.EVENT_TYPE]))
        return drafts

    def recorded(self, head: Head, positions: Sequence[int], *, duplicate: bool) -> Appended:
        """Note that the events stand in the log."""
        self.result = Appended(
            aggregate=self.append.aggregate,
            aggregate_id=self.append.aggregate_id,
            head=head,
            event_ids=self.event_ids,
            positions=tuple(positions),
            duplicate=duplicate,
        )
        return self.result


def _personal_in(
    append: Append, codec: Codec
) -> dict[int, tuple[Event, tuple[PersonalField, ...]]]:
    """The events with personal data, by their index."""
    if not codec.has_personal():
        return {}
    events = [each.data if isinstance(each, NewEvent) else each for each in append.events]
    fields = {index: codec.personal_fields(type(event)) for index, event in enumerate(events)}
    return {index: (events[index], found) for index, found in fields.items() if found}


def _fix(
    append: Append, event: Event | NewEvent, index: int, codec: Codec, now: datetime
) -> tuple[dict[str, str], bytes]:
    new = event if isinstance(event, NewEvent) else NewEvent(data=event)
    cls = type(new.data)
    codec.check_event_type(cls)
    if cls.__aggregate__ != append.aggregate:
        raise InvalidMessage(f"{cls.__name__} is no event of {append.aggregate}")
    identity = new.identity or _identity(append, index)
    envelope = Envelope(
        identity=identity,
        type=cls.__name__,
        domain=codec.domain,
        timestamp=format_timestamp(new.timestamp or now),
        aggregate_id=append.aggregate_id,
        schema_version=cls.__schema_version__,
        actor=new.actor or append.actor,
        authenticated_as=append.authenticated_as,
        command_digest=append.command_digest or _no_command(identity),
        traceparent=new.traceparent,
    )
    return envelope.to_headers(), codec.encode(new.data)


def _no_command(identity: Identity) -> str | None:
    """Mark a fact that something has caused, lest it be taken for what a command decided."""
    return NO_COMMAND if identity.causation_id != identity.id else None


def _identity(append: Append, index: int) -> Identity:
    if append.cause is None:
        return Identity.root()
    name = f"{append.aggregate}.{append.aggregate_id}.{index}"
    return Identity.caused_by(append.cause, derive_id(append.cause.id, name))
