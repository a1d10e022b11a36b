"""Composes the message of a command: its ids, its envelope, and the headers beside it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from eventstore.client.client import Client
from eventstore.commands.command_message import CommandMessage
from eventstore.errors import InvalidHeader, InvalidMessage, UnknownType
from eventstore.jetstream.publish import check_sizes
from eventstore.messages.codec import Codec
from eventstore.messages.context import current
from eventstore.messages.envelope import (
    Envelope,
    Identity,
    MessageId,
    derive_id,
    format_timestamp,
)
from eventstore.messages.headers import (
    EXPECTED_VERSION,
    ID_DERIVED,
    PROCESS,
    Header,
    expected_version_of,
)
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command
from eventstore.telemetry import Span, Telemetry


class Composer:
    """Composes commands of a domain, as `CommandClient` says; inside a handler, caused by that."""

    def __init__(
        self,
        client: Client,
        codec: Codec,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
    ) -> None:
        self._client = client
        self._codec = codec
        self._clock = clock
        self._telemetry = telemetry

    def span(self, command: Command, cause: Identity | None) -> Span:
        """The span in which a command is sent."""
        handling = current() if cause is None else None
        given = handling.traceparent if handling else None
        return self._telemetry.span("send", traceparent=given, type=type(command).__name__)

    def compose(
        self,
        command: Command,
        aggregate_id: AggregateId | None,
        command_id: MessageId | None,
        cause: Identity | None,
        actor: str | None,
        span: Span,
        extra: dict[str, str],
        name: str | None = None,
    ) -> CommandMessage:
        """The command as it is sent; raises `InvalidMessage` and `EventTooLarge`.

        Its id is derived from a handled message and a name; by default, that of its recipient.
        """
        cls = type(command)
        if not hasattr(cls, "__aggregate__"):
            raise InvalidMessage(f"{command!r} is no command: its class has no subject")
        if self._codec.command_type(cls.__aggregate__, cls.__action__) is not cls:
            raise UnknownType(f"{cls.__name__} is not registered in {self._codec.domain}")
        handling = current() if cause is None else None
        if handling is not None:
            name = name or f"command {cls.__aggregate__}.{aggregate_id or ''}.{cls.__name__}"
            identity = handling.caused(name, command_id)
            if command_id is None:
                extra[ID_DERIVED] = "1"
            if handling.process is not None:
                extra[PROCESS] = handling.process
        elif cause is not None:
            identity = Identity.caused_by(cause, command_id)
        else:
            identity = Identity.root(command_id)
        envelope = Envelope(
            identity=identity,
            type=cls.__name__,
            domain=self._codec.domain,
            timestamp=format_timestamp(self._clock()),
            schema_version=cls.__schema_version__,
            aggregate_id=recipient(command, aggregate_id, identity.id),
            actor=actor or (handling.actor if handling else None),
            traceparent=span.traceparent,
        )
        is_own = cause is None and handling is None and envelope.actor is None
        message = CommandMessage(self._codec, command, envelope, extra, is_checked=is_own)
        check_sizes([message.draft], self._client.max_payload)
        return message


def recipient(command: Command, aggregate_id: AggregateId | None, command_id: str) -> str:
    """The id of the aggregate that a command is for, derived from its own if it may have none.

    Raises `InvalidHeader` and `InvalidId`.
    """
    cls = type(command)
    if aggregate_id is not None:
        return check_aggregate_id(aggregate_id)
    if not cls.__creates__:
        raise InvalidHeader(
            Header.AGGREGATE_ID,
            f"is missing: {cls.__name__} needs the id of its {cls.__aggregate__} (--id)",
        )
    return derive_id(command_id, "aggregate")


def expectation(version: int | None) -> dict[str, str]:
    """The header of an expected version; raises `InvalidHeader` for an illegal one."""
    if version is None:
        return {}
    headers = {EXPECTED_VERSION: str(version)}
    expected_version_of(headers)
    return headers
