"""The codec: a registry of message types that encodes and decodes them.

Commands are registered by subject and events by type name, once, when the program starts; nothing
is global. Payloads are JSON. Events of older schema versions are upcast on reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from eventstore.errors import (
    DeciderError,
    EventStoreError,
    InvalidHeader,
    InvalidMessage,
    InvalidPayload,
    UnknownType,
)
from eventstore.messages.decoders import decoder_of
from eventstore.messages.encryption import NO_KEYS, PERSONAL, Keys, check_available, unseal
from eventstore.messages.envelope import Envelope
from eventstore.messages.event_template import EventTemplate
from eventstore.messages.events import RecordedEvent, UnreadEvent
from eventstore.messages.fidelity import difference, is_same
from eventstore.messages.headers import Header
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.personal import PersonalField, check_unmarked, personal_fields
from eventstore.messages.subjects import Subjects, check_name
from eventstore.messages.types import Command, Event, Message
from eventstore.messages.undecodable import STOPS, UNDECODABLE, text_of
from eventstore.messages.upcasting import Upcaster, Upcasting

M = TypeVar("M", bound=Message)

_encoder = msgspec.json.Encoder()


class _Entry(Generic[M]):
    """One registered type and its decoder."""

    def __init__(self, cls: type[M]) -> None:
        self.cls = cls
        self.schema_version = cls.__schema_version__
        self._decoder = decoder_of(cls)

    def decode(self, payload: bytes, origin: str = "") -> M:
        try:
            return self._decoder.decode(payload or b"{}")
        except UNDECODABLE as error:
            raise self._refusal(origin, text_of(error)) from error
        except STOPS:
            raise
        except BaseException as error:  # of a class's own __post_init__ or hook
            raise self._refusal(origin, f"{type(error).__name__}: {text_of(error)}") from error

    def _refusal(self, origin: str, problem: str) -> InvalidPayload:
        upcast = f", upcast from {origin}" if origin else ""
        return InvalidPayload(f"payload of {self.cls.__name__}{upcast}: {problem}")


class Codec:
    """Encodes and decodes the messages of one domain.

    `aggregates` are kinds of aggregates that have only opaque events (`OpaqueEvent`); all others
    may have some, too. Raises `InvalidSubject` for one that is not a legal name.

    Raises `DeciderError` if two commands share a subject, or two events a type name, if a field is
    of a type that JSON cannot hold, or if the upcasters do not lead from every older version of an
    event to the current one; and `ConfigurationError` if events have personal data and the
    encryption library is not installed.
    """

    def __init__(
        self,
        domain: str,
        commands: Iterable[type[Command]],
        events: Iterable[type[Event]],
        upcasters: Iterable[Upcaster] = (),
        *,
        aggregates: Iterable[str] = (),
    ) -> None:
        self.domain = domain
        self.subjects = Subjects(domain)
        self._commands: dict[tuple[str, str], _Entry[Command]] = {}
        self._events: dict[str, _Entry[Event]] = {}
        self._entries: dict[type[Message], _Entry[Any]] = {}
        self._templates: dict[type[Event], EventTemplate] = {}
        for command in commands:
            self._add_command(command)
        for event in events:
            self._add_event(event)
        self._personal = {
            cls: fields for cls in self.event_types if (fields := personal_fields(cls))
        }
        for command in self.command_types:
            check_unmarked(command)
        if self._personal:
            check_available()
        self.upcasting = Upcasting(self.event_types, upcasters)
        self._aggregates = {cls.__aggregate__ for cls in (*self.command_types, *self.event_types)}
        self._aggregates |= {check_name("aggregate", name) for name in aggregates}

    def _add_command(self, cls: type[Command]) -> None:
        key = (cls.__aggregate__, cls.__action__)
        known = self._commands.setdefault(key, _Entry(cls))
        if known.cls is not cls:
            raise DeciderError(f"{cls.__name__} and {known.cls.__name__} share {'.'.join(key)}")
        self._entries[cls] = known

    def _add_event(self, cls: type[Event]) -> None:
        known = self._events.setdefault(cls.__name__, _Entry(cls))
        if known.cls is not cls:
            raise DeciderError(f"two event types are named {cls.__name__}")
        self._entries[cls] = known

    @property
    def command_types(self) -> list[type[Command]]:
        """All registered command types, in the order of their registration."""
        return [entry.cls for entry in self._commands.values()]

    @property
    def event_types(self) -> list[type[Event]]:
        """All registered event types, in the order of their registration."""
        return [entry.cls for entry in self._events.values()]

    def encode(self, message: Message) -> bytes:
        """The payload of a message.

        Raises `UnknownType` if its type is not registered, and `InvalidPayload`, naming the field,
        for a value that JSON cannot hold or that would be read as another one.
        """
        return self.round_trip(message)[0]

    def round_trip(self, message: M) -> tuple[bytes, M]:
        """The payload of a message, and the message as it will be read from that.

        They differ if a field declares another type than it was given: an int in a field of
        floats is read as a float. Raises what `encode` raises.
        """
        name = type(message).__name__
        entry: _Entry[M] | None = self._entries.get(type(message))
        if entry is None:
            if isinstance(message, OpaqueEvent):
                return message.payload, message
            raise UnknownType(f"{name} is not registered in {self.domain}")
        try:
            payload = _encoder.encode(message)
        except (*UNDECODABLE, TypeError) as error:
            raise InvalidPayload(f"payload of {name}: {_unwritable(message)}{error}") from error
        # msgspec does not check a struct's fields when it is made, and an unreadable event would
        # block its aggregate for ever.
        read = entry.decode(payload)
        if is_same(message, read):
            return payload, read
        try:
            lost = difference(message, read)
        except RecursionError as error:
            raise InvalidPayload(f"payload of {name}: nested too deeply") from error
        if lost:
            raise InvalidPayload(f"payload of {name}: {lost}")
        return payload, read

    def command_type(self, aggregate: str, action: str) -> type[Command]:
        """The command sent on a subject; raises `UnknownType`."""
        return self._command(aggregate, action).cls

    def decode_command(self, aggregate: str, action: str, payload: bytes) -> Command:
        """Read a command; raises `UnknownType` or `InvalidPayload`. No payload counts as `{}`."""
        return self._command(aggregate, action).decode(payload)

    def check_aggregate(self, aggregate: str) -> None:
        """Raise `UnknownType` unless some registered message is of this kind of aggregate."""
        if aggregate not in self._aggregates:
            known = ", ".join(sorted(self._aggregates))
            raise UnknownType(f"unknown aggregate {aggregate!r}; known are {known}")

    def personal_fields(self, cls: type[Event]) -> tuple[PersonalField, ...]:
        """The fields of an event type that are encrypted in the log."""
        return self._personal.get(cls, ())

    def has_personal(self, aggregate: str | None = None) -> bool:
        """Whether there are events with personal data, of this kind of aggregate or of any.

        A state folded from them must not be stored where it cannot be erased.
        """
        if not self._personal:
            return False
        return any(aggregate in (None, cls.__aggregate__) for cls in self._personal)

    def check_event_type(self, cls: type[Event]) -> None:
        """Raise `UnknownType` unless `cls` is registered."""
        known = self._events.get(cls.__name__)
        if known is None or known.cls is not cls:
            raise UnknownType(f"event type {cls.__name__} is not registered in {self.domain}")

    def template(self, cls: type[Event]) -> EventTemplate:
        """What all events of a type are written with; raises `UnknownType` or `InvalidHeader`."""
        known = self._templates.get(cls)
        if known is None:
            self.check_event_type(cls)
            known = EventTemplate(self.domain, cls.__name__, cls.__schema_version__)
            self._templates[cls] = known
        return known

    def check_opaque(self, event: OpaqueEvent) -> None:
        """Raise `InvalidMessage`, naming what is wrong, unless an opaque event may be appended."""
        event.checked()
        if event.type in self._events or self.upcasting.knows(event.type):
            raise InvalidMessage(
                f"{event.type} is an event type of {self.domain}: append an event of that class, "
                "or give the opaque event another type"
            )

    def decode_event(self, name: str, schema_version: int, payload: bytes) -> list[Event]:
        """Decode an event: one event, or, if it is of an older schema, one, several or none.

        Raises `UnknownType`, `UnsupportedSchema` or `InvalidPayload`.
        """
        entry = self._events.get(name)
        if entry is not None and entry.schema_version == schema_version:
            return [entry.decode(payload)]
        if not self.upcasting.knows(name):
            raise UnknownType(f"event type {name!r} is not registered in {self.domain}")
        return [
            self._events[piece.type].decode(piece.payload, piece.origin)
            for piece in self.upcasting.upcast(name, schema_version, payload)
        ]

    def recorded(
        self,
        subject: str,
        headers: Mapping[str, str],
        payload: bytes,
        position: int,
        keys: Keys = NO_KEYS,
        stored_ns: int = 0,
    ) -> list[RecordedEvent]:
        """Read an event of the log: the parts that it is decoded to, mostly one.

        `keys` decrypt the personal data in it. Raises `InvalidSubject`, `InvalidHeader`,
        `UnknownType`, `UnsupportedSchema`, `InvalidPayload` or `KeyMissing`.
        """
        aggregate, aggregate_id, version, envelope = self._placed(subject, headers)
        parts: list[Event]
        if envelope.opaque is not None:
            parts = [OpaqueEvent.of(envelope, payload)]
        else:
            clear = unseal(payload, headers, keys) if PERSONAL in headers else payload
            parts = self.decode_event(envelope.type, envelope.schema_version, clear)
        if not parts:
            return []
        first = RecordedEvent(
            envelope=envelope,
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            version=version,
            position=position,
            headers=headers,
            payload=payload,
            stored_ns=stored_ns,
            data=parts[0],
        )
        if len(parts) == 1:
            return [first]
        others = enumerate(parts[1:], start=1)
        return [first, *[replace(first, data=data, part=part) for part, data in others]]

    def unread(
        self,
        subject: str,
        headers: Mapping[str, str],
        payload: bytes,
        position: int,
        error: InvalidMessage | None = None,
        stored_ns: int = 0,
    ) -> UnreadEvent:
        """The metadata of an event that `recorded` decodes to nothing, or cannot decode.

        Raises `InvalidSubject` or `InvalidHeader` if not even its envelope can be read.
        """
        aggregate, aggregate_id, version, envelope = self._placed(subject, headers)
        schema = envelope.type, envelope.schema_version
        types = None
        if self.upcasting.reads(*schema):
            types = frozenset(self._events[each].cls for each in self.upcasting.types(*schema))
        return UnreadEvent(
            envelope=envelope,
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            version=version,
            position=position,
            headers=headers,
            payload=payload,
            stored_ns=stored_ns,
            error=error,
            types=types,
        )

    def _placed(self, subject: str, headers: Mapping[str, str]) -> tuple[str, str, int, Envelope]:
        """An event's aggregate, its id, its version there, and the envelope."""
        aggregate, aggregate_id = self.subjects.parse_log(subject)
        envelope = Envelope.from_headers(headers)
        if envelope.version is None:
            raise InvalidHeader(Header.AGGREGATE_VERSION, "is missing")
        if envelope.aggregate_id != aggregate_id:
            raise InvalidHeader(Header.AGGREGATE_ID, f"is not {aggregate_id}, as the subject says")
        return aggregate, aggregate_id, envelope.version, envelope

    def _command(self, aggregate: str, action: str) -> _Entry[Command]:
        entry = self._commands.get((aggregate, action))
        if entry is not None:
            return entry
        self.check_aggregate(aggregate)
        actions = ", ".join(sorted(known for of, known in self._commands if of == aggregate))
        raise UnknownType(f"{aggregate} has no command {action!r}; it has {actions}")


def check_events(
    where: str,
    events: Iterable[type[Event]],
    codec: Codec,
    error: type[EventStoreError] = DeciderError,
) -> None:
    """Raise `error` for an event that no decider of the domain has: none can arrive."""
    for event in events:
        if event not in (Event, OpaqueEvent, *codec.event_types):
            raise error(
                f"{where}: no decider of {codec.domain} evolves by {event.__name__}, so that none "
                "is ever recorded"
            )


def _unwritable(message: Message) -> str:
    """The field that cannot be encoded, if it is a single one."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        try:
            _encoder.encode(None if value is msgspec.UNSET else value)
        except Exception:  # has been raised before, and is reported
            return f"`$.{name}`: "
    return ""
