"""Encodes the events of one append: their ids, and the headers that they have in common."""

from __future__ import annotations

from datetime import datetime

from eventstore.errors import InvalidHeader, InvalidMessage
from eventstore.messages.chain import chained_optional
from eventstore.messages.codec import Codec
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
from eventstore.messages.opaque_headers import opaque_lines
from eventstore.messages.types import Event
from eventstore.store.append import Append

_Attributes = tuple[str, str, str]
"""The timestamp and what else events of an append may have in common; see `EncodedEvent`."""

_NOTHING = (None,) * 7
_NOTHING_CHAINED = chained_optional(None, None, None)


class EventEncoder:
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
        optional = optional_lines(actor, sender, digest, traceparent) + opaque_lines(headers)
        return time, optional, chained_optional(actor, sender, traceparent, content_type, headers)


def _timestamp(time: datetime) -> str:
    try:
        return format_timestamp(time)
    except (ValueError, OverflowError) as error:
        raise InvalidHeader(Header.TIMESTAMP, f"cannot be {time}: {error}") from error
