"""Intake: from the bytes on the command stream to a command that can be decided.

A command may come from anybody who can publish, with all headers or with none. What is missing
is filled in so that a redelivery keeps its identity; what is wrong is refused, and named.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg

from eventstore.codec import Codec
from eventstore.envelope import (
    Envelope,
    Header,
    Identity,
    check_message_id,
    derive_id,
    format_timestamp,
)
from eventstore.errors import InvalidHeader, InvalidId
from eventstore.messages import Command
from eventstore.pull import Delivery
from eventstore.subjects import Subject

__all__ = ["REPLY_TO", "Accepted", "accept", "command_id_of", "reply_to_of"]

REPLY_TO = "X-Reply-To"
"""The header that names the inbox to which the outcome is sent."""

_INBOX = re.compile(r"_INBOX(\.[A-Za-z0-9_-]{1,64}){1,4}")
_NAMESPACE = uuid.UUID("b9a4b0f6-3a3c-5f0e-9d0f-6d1c6f6f3c11")


class Accepted(msgspec.Struct, frozen=True):
    """A command that has been understood."""

    command: Command
    aggregate: str
    aggregate_id: str
    envelope: Envelope

    @property
    def identity(self) -> Identity:
        """The command's ids."""
        return self.envelope.identity

    @property
    def key(self) -> tuple[str, str]:
        """The aggregate it is for."""
        return self.aggregate, self.aggregate_id


def command_id_of(message: Msg, delivery: Delivery, stream: str) -> str:
    """The id of a command, the same for every delivery, even of one that is not legal.

    Its own, or derived from `Nats-Msg-Id`, or from its place in the command stream (with its
    time there, for a stream that was made anew counts from 1 again).
    """
    headers = message.headers or {}
    for name in (Header.EVENT_ID, Header.MESSAGE_ID):
        if name in headers:
            try:
                return check_message_id(headers[name])
            except InvalidId:
                continue
    if Header.MESSAGE_ID in headers and Header.EVENT_ID not in headers:
        return str(uuid.uuid5(_NAMESPACE, f"{stream}:{headers[Header.MESSAGE_ID]}"))
    return str(uuid.uuid5(_NAMESPACE, f"{stream}:{delivery.sequence}:{delivery.time}"))


def reply_to_of(message: Msg) -> str | None:
    """The inbox that asks for the outcome; None for an address that is no inbox."""
    address = (message.headers or {}).get(REPLY_TO, "")
    return address if _INBOX.fullmatch(address) else None


def accept(codec: Codec, message: Msg, delivery: Delivery, command_id: str) -> Accepted:
    """Understand a command; raises `InvalidMessage`, saying what is wrong with it."""
    subject = Subject.parse(message.subject)
    cls = codec.command_type(subject.aggregate, subject.action)
    envelope = Envelope.from_headers(
        _completed(message.headers or {}, cls, subject, delivery, command_id)
    )
    if envelope.type != cls.__name__:
        raise InvalidHeader(
            Header.EVENT_TYPE, f"is {envelope.type!r}, but {message.subject} takes {cls.__name__}"
        )
    command = codec.decode_command(subject.aggregate, subject.action, message.data)
    aggregate_id = envelope.aggregate_id or _new_aggregate_id(cls, command_id)
    return Accepted(command, subject.aggregate, aggregate_id, envelope)


def _completed(
    headers: dict[str, str],
    cls: type[Command],
    subject: Subject,
    delivery: Delivery,
    command_id: str,
) -> dict[str, str]:
    given = dict(headers)
    if Header.EVENT_ID not in given:
        given[Header.EVENT_ID] = given[Header.MESSAGE_ID] = command_id
    story = given.get(Header.CORRELATION_ID) or given.get(Header.CAUSATION_ID) or command_id
    given.setdefault(Header.CORRELATION_ID, story)
    given.setdefault(Header.CAUSATION_ID, story)
    given.setdefault(Header.EVENT_TYPE, cls.__name__)
    given.setdefault(Header.DOMAIN, subject.domain)
    given.setdefault(Header.TIMESTAMP, _stored_at(delivery))
    return given


def _stored_at(delivery: Delivery) -> str:
    return format_timestamp(datetime.fromtimestamp(delivery.time / 1e9, UTC))


def _new_aggregate_id(cls: type[Command], command_id: str) -> str:
    if not cls.__creates__:
        raise InvalidHeader(
            Header.AGGREGATE_ID,
            f"is missing: {cls.__name__} needs the id of the {cls.__aggregate__} it is for",
        )
    return derive_id(command_id, "aggregate")
