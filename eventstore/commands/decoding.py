"""Decoding: from a message of the command stream to a command that can be decided.

A command may come from any publisher, with all headers or with none. Missing headers are filled in
such that a redelivery has the same identity; illegal ones are refused, and named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from eventstore.client.client import Message
from eventstore.client.protocol import check_headers
from eventstore.commands.digest import digest_of, without_data
from eventstore.concurrency.failures import without_frames
from eventstore.errors import InvalidHeader, InvalidId, UnsupportedSchema
from eventstore.jetstream.consumer import Delivery
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.codec import Codec
from eventstore.messages.command_lines import read_command_lines
from eventstore.messages.envelope import (
    Envelope,
    EventHeaders,
    Identity,
    check_message_id,
    derive_id,
    format_timestamp,
)
from eventstore.messages.headers import (
    AUTHENTICATED_AS,
    COMMAND_DIGEST,
    ID_DERIVED,
    JSON,
    PROCESS,
    REPLY_TO,
    REQUIRED,
    RULES,
    Header,
    expected_version_of,
    legal_value,
)
from eventstore.messages.opaque_headers import OPAQUE
from eventstore.messages.subjects import AGGREGATE_ID, Subject, Subjects
from eventstore.messages.types import Command
from eventstore.timers.due import Firing

_NAMESPACE = "b9a4b0f6-3a3c-5f0e-9d0f-6d1c6f6f3c11"
_JSON_IN_UTF8 = re.compile(
    r"application/json *(?:; *charset *= *(?:utf-?8|us-ascii|\"(?:utf-?8|us-ascii)\") *)?;?",
    re.IGNORECASE,
)
_WORKERS_OWN = {AUTHENTICATED_AS, COMMAND_DIGEST, OPAQUE}
_BARE = {Header.AGGREGATE_ID, REPLY_TO}
_TYPE_NAME, _ = RULES[Header.EVENT_TYPE]


class DecodedCommand(msgspec.Struct, frozen=True, gc=False):
    """A command, its envelope and aggregate; `digest` distinguishes it from others with its id.

    `expected` is the version that the aggregate must have, None for any; `process` is the process
    that has sent it, if one has.
    """

    command: Command
    aggregate: str
    aggregate_id: str
    envelope: Envelope
    digest: str | None = None
    expected: int | None = None
    process: str | None = None

    @property
    def identity(self) -> Identity:
        """The command's ids."""
        return self.envelope.identity

    @property
    def key(self) -> tuple[str, str]:
        """The aggregate it is for."""
        return self.aggregate, self.aggregate_id


class ReceivedCommand(msgspec.Struct, frozen=True):
    """A message of the command stream: the command's id, and its content or why it has none."""

    message: Message
    delivery: Delivery
    headers: Mapping[str, str]
    command_id: str
    content: DecodedCommand | Exception

    @classmethod
    def of(cls, codec: Codec, message: Message) -> ReceivedCommand:
        """Decode a message; does not raise for any content."""
        delivery = Delivery.of(message)
        headers = _headers_of(message)
        command_id = _command_id(headers, delivery.sequence, delivery.time, codec.subjects)
        content: DecodedCommand | Exception
        try:
            content = _decode(codec, message, headers, delivery, command_id)
        except Exception as error:  # a command class may check its fields with code of its own
            content = without_frames(error)
        return cls(message, delivery, headers, command_id, content)

    def sent_by(self, sender: str | None) -> ReceivedCommand:
        """The same with its sender according to the server; None leaves it as it is.

        An empty sender, which is one that could not be read, makes it refused.
        """
        if sender is None or not isinstance(self.content, DecodedCommand):
            return self
        if not sender:
            problem = InvalidHeader(
                NatsHeader.REQUEST_INFO, "is not as the server writes it, at the end"
            )
            return msgspec.structs.replace(self, content=problem)
        envelope = msgspec.structs.replace(self.content.envelope, authenticated_as=sender)
        content = msgspec.structs.replace(self.content, envelope=envelope)
        return msgspec.structs.replace(self, content=content)

    @property
    def queue_key(self) -> tuple[str, ...]:
        """The aggregate, whose commands are sequential; unique for one that was not decoded."""
        content = self.content
        if isinstance(content, DecodedCommand):
            return content.aggregate, content.aggregate_id
        return (self.message.reply,)

    @property
    def aggregate(self) -> str:
        """The kind of aggregate that its subject names, which need not exist."""
        return Subject.split(self.message.subject).aggregate

    @property
    def aggregate_id(self) -> str | None:
        """The aggregate's id; None if it names none, or an illegal one."""
        if isinstance(self.content, DecodedCommand):
            return self.content.aggregate_id
        named = self.headers.get(Header.AGGREGATE_ID, "")
        return named if AGGREGATE_ID.fullmatch(named) else None

    @property
    def is_bare(self) -> bool:
        """Whether it came without an `X-Event-ID`, so that its sender may not know its id."""
        return Header.EVENT_ID not in self.headers

    @property
    def is_from_timer(self) -> bool:
        """Whether the server queued it when a timer was due."""
        return NatsHeader.SCHEDULER in self.headers

    @property
    def reply_to(self) -> str:
        """The address to send the outcome to, as the sender gave it; it need not be an inbox."""
        return self.headers.get(REPLY_TO, "")


def id_of_message(stream: str, message_id: str) -> str:
    """The id of a command that was sent with this `Nats-Msg-Id` and no `X-Event-ID`."""
    try:
        return check_message_id(message_id)
    except InvalidId:
        return derive_id(_NAMESPACE, f"{stream}:{message_id}")


def id_of_stored(message: StoredMessage, subjects: Subjects) -> str:
    """The id of a command in its stream, the same as of its deliveries."""
    return _command_id(message.headers, message.sequence, message.time, subjects)


def _headers_of(message: Message) -> Mapping[str, str]:
    """The headers of a message; unreadable ones may be empty, and stay what they are."""
    usual = read_command_lines(message.block)
    headers = message.headers if usual is None else usual
    return {} if headers is None else headers


def _command_id(headers: Mapping[str, str], sequence: int, time: int, subjects: Subjects) -> str:
    """The id of a command, the same for every delivery, even if it cannot be decoded.

    Its own, or derived from `Nats-Msg-Id`, from the firing of a recurring timer, or from its
    sequence in the command stream (and its time there, because a new stream counts from 1 again).
    """
    if isinstance(headers, EventHeaders):
        return headers.envelope.identity.id
    stream = subjects.command_stream
    for name in (Header.EVENT_ID, Header.MESSAGE_ID):
        if name in headers:
            try:
                return check_message_id(headers[name])
            except InvalidId:
                continue
    if Header.MESSAGE_ID in headers and Header.EVENT_ID not in headers:
        return id_of_message(stream, headers[Header.MESSAGE_ID])
    firing = Firing.of(headers, subjects.timer_stream)
    origin = f"{sequence}:{time}" if firing is None else firing.key
    return derive_id(_NAMESPACE, f"{stream}:{origin}")


def _decode(
    codec: Codec,
    message: Message,
    headers: Mapping[str, str],
    delivery: Delivery,
    command_id: str,
) -> DecodedCommand:
    """Decode a command; raises `InvalidMessage`, saying what is wrong with it."""
    check_headers(headers)
    subject = Subject.split(message.subject)
    cls = codec.command_type(subject.aggregate, subject.action)
    if isinstance(headers, EventHeaders):
        envelope = headers.envelope
    elif headers.keys() <= _BARE and _is_legal(headers.get(Header.AGGREGATE_ID, ""), cls.__name__):
        envelope = _bare(headers[Header.AGGREGATE_ID], cls, codec.domain, delivery, command_id)
    else:
        headers = _as_sent(headers)
        if not headers.keys() >= {*REQUIRED}:
            headers = _filled_in(headers, cls, codec.domain, delivery, command_id)
        envelope = Envelope.from_headers(headers)
    _check_type(headers, envelope, cls, message.subject)
    command = codec.decode_command(subject.aggregate, subject.action, message.data)
    if envelope.aggregate_id is None and not cls.__creates__:
        raise InvalidHeader(
            Header.AGGREGATE_ID,
            f"is missing: {cls.__name__} needs the id of the {cls.__aggregate__} it is for",
        )
    aggregate_id = envelope.aggregate_id or derive_id(command_id, "aggregate")
    expected = expected_version_of(headers)
    digest = digest_of(command, aggregate_id, command_id, message.data, expected)
    if ID_DERIVED in headers:
        digest = without_data(digest)
    process = headers.get(PROCESS)
    return DecodedCommand(
        command, subject.aggregate, aggregate_id, envelope, digest, expected, process
    )


def _as_sent(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers without those that only a worker may set, and without harmless mistakes.

    These are an illegal trace parent, which is dropped, and other spellings of the content type.
    """
    given = headers
    if not headers.keys().isdisjoint(_WORKERS_OWN):
        given = {name: value for name, value in headers.items() if name not in _WORKERS_OWN}
    if Header.TRACEPARENT in given and legal_value(given, Header.TRACEPARENT) is None:
        given = {name: value for name, value in given.items() if name != Header.TRACEPARENT}
    content_type = given.get(Header.CONTENT_TYPE, JSON)
    if content_type != JSON and _JSON_IN_UTF8.fullmatch(content_type):
        given = {**given, Header.CONTENT_TYPE: JSON}
    return given


def _is_legal(aggregate_id: str, name: str) -> bool:
    return bool(AGGREGATE_ID.fullmatch(aggregate_id) and _TYPE_NAME.fullmatch(name))


def _bare(
    aggregate_id: str, cls: type[Command], domain: str, delivery: Delivery, command_id: str
) -> Envelope:
    """What is read of a message whose other headers were `_filled_in`; nothing is left to check."""
    return Envelope(
        identity=Identity(command_id, command_id, command_id),
        type=cls.__name__,
        domain=domain,
        timestamp=_stored_at(delivery),
        aggregate_id=aggregate_id,
    )


def _filled_in(
    headers: Mapping[str, str],
    cls: type[Command],
    domain: str,
    delivery: Delivery,
    command_id: str,
) -> dict[str, str]:
    given = dict(headers)
    if Header.EVENT_ID not in given:
        given[Header.EVENT_ID] = given[Header.MESSAGE_ID] = command_id
    root = given.get(Header.CORRELATION_ID) or given.get(Header.CAUSATION_ID) or command_id
    given.setdefault(Header.CORRELATION_ID, root)
    given.setdefault(Header.CAUSATION_ID, root)
    given.setdefault(Header.EVENT_TYPE, cls.__name__)
    given.setdefault(Header.DOMAIN, domain)
    given.setdefault(Header.TIMESTAMP, _stored_at(delivery))
    return given


def _stored_at(delivery: Delivery) -> str:
    return format_timestamp(datetime.fromtimestamp(delivery.time / 1e9, UTC))


def _check_type(
    headers: Mapping[str, str], envelope: Envelope, cls: type[Command], subject: str
) -> None:
    if envelope.type != cls.__name__:
        raise InvalidHeader(
            Header.EVENT_TYPE, f"is {envelope.type!r}, but {subject} takes {cls.__name__}"
        )
    if Header.SCHEMA_VERSION in headers and envelope.schema_version != cls.__schema_version__:
        raise UnsupportedSchema(
            f"{cls.__name__} was sent with schema version {envelope.schema_version}; "
            f"this code reads version {cls.__schema_version__}"
        )
