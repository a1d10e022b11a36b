"""The log of outcomes: each with the metadata of its command, for audits.

The outcome, as it was sent to the caller, is the payload of a message in the bucket. The metadata
are headers of the same message, and so cost no further message; outcomes that were stored before
there were such headers have no metadata.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypedDict

import msgspec

from eventstore.client.client import Client, Message
from eventstore.client.protocol import header_lines
from eventstore.commands.decoding import DecodedCommand, ReceivedCommand
from eventstore.errors import UnknownType
from eventstore.jetstream.consumer import Delivery
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.ordered_consumer import ordered_consumer
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import (
    format_timestamp,
    instant,
    optional_lines,
    parse_timestamp,
)
from eventstore.messages.header_patterns import TIMESTAMP, block_of
from eventstore.messages.headers import AUTHENTICATED_AS, COMMAND_DIGEST, Header, legal_value
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subject, Subjects
from eventstore.messages.undecodable import UNDECODABLE

_ACCEPTED_AT = "X-Accepted-At"
_DELIVERIES = "X-Deliveries"

COMMAND_SEQUENCE = "X-Command-Sequence"
"""The header with the command's sequence in its stream, 0 if that is not known."""

_OPTIONAL = (Header.ACTOR, AUTHENTICATED_AS, COMMAND_DIGEST)
_DESCRIBED = (Header.EVENT_TYPE, Header.CORRELATION_ID, Header.CAUSATION_ID, *_OPTIONAL)
_usual = re.compile(
    block_of(_DESCRIBED, may_lack=_OPTIONAL).pattern
    + rf"{_ACCEPTED_AT}: ({TIMESTAMP})\r\n{_DELIVERIES}: ([0-9]{{1,9}})\r\n"
    + rf"{COMMAND_SEQUENCE}: [0-9]+\r\n{NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE}: [0-9]+\r\n\r\n"
).fullmatch

_OUTCOMES = "*"
"""The keys of outcomes, which are ids; others are notes about commands (`at.7`)."""


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome with the metadata of its command.

    `accepted_at` is when the command stream stored the command, `finished_at` when its outcome
    was stored, both by the server's clock; `actor` is whom the sender claimed to act for, and
    `authenticated_as` the sender according to the server; `deliveries` is how often it was
    delivered to a worker. Unknown fields are None: all but `finished_at` of outcomes that were
    stored by earlier versions, and the type of an unknown command.
    """

    outcome: Outcome
    finished_at: datetime
    type: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None
    authenticated_as: str | None = None
    accepted_at: datetime | None = None
    deliveries: int | None = None

    @classmethod
    def of(cls, message: Message, delivery: Delivery) -> OutcomeRecord | None:
        """Decode a message of the bucket; None if it is no outcome, as when it was deleted."""
        try:
            outcome = Outcome.from_json(message.data)
        except UNDECODABLE:
            return None
        about = _read_usual(message.block) or _read(message.headers or {})
        return cls(outcome=outcome, finished_at=instant(delivery.time), **about)


class _About(TypedDict):
    """What the headers of an outcome tell of its command."""

    type: str | None
    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    authenticated_as: str | None
    accepted_at: datetime | None
    deliveries: int | None


def _read_usual(block: bytes) -> _About | None:
    """What the headers tell, if all are legal and as `about` and `Outcomes.put` write them."""
    try:
        found = _usual(block.decode())
        if found is None:
            return None
        of_type, correlation, causation, actor, sender, _, accepted_at, delivered = found.groups()
        return {
            "type": of_type,
            "correlation_id": correlation,
            "causation_id": causation,
            "actor": actor,
            "authenticated_as": sender,
            "accepted_at": datetime.fromisoformat(accepted_at),
            "deliveries": int(delivered),
        }
    except ValueError:  # it is not UTF-8, or there is no such time
        return None


def _read(headers: Mapping[str, str]) -> _About:
    """What can be read of the headers of an outcome, each by itself."""
    return {
        "type": legal_value(headers, Header.EVENT_TYPE),
        "correlation_id": legal_value(headers, Header.CORRELATION_ID),
        "causation_id": legal_value(headers, Header.CAUSATION_ID),
        "actor": legal_value(headers, Header.ACTOR),
        "authenticated_as": legal_value(headers, AUTHENTICATED_AS),
        "accepted_at": _time(headers.get(_ACCEPTED_AT, "")),
        "deliveries": _number(headers.get(_DELIVERIES, "")),
    }


class OutcomePage(msgspec.Struct, frozen=True):
    """Some outcomes in the order in which they were stored.

    `position` is the bucket's last sequence that the page covers, `pending` how many messages are
    left after it. Of a command with several outcomes, only the last one is still there.
    """

    outcomes: list[OutcomeRecord]
    position: int
    pending: int


class OutcomeLog:
    """Reads a domain's outcomes in the order in which they were stored."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self.bucket = subjects.outcome_bucket
        self._client = client
        self._bucket = KeyValue(client, self.bucket)

    async def state(self) -> tuple[str, int]:
        """When the bucket was first created, which identifies it, and its last sequence.

        Raises `StreamMissing` and `ClientError`.
        """
        info = await self._bucket.info()
        return info.first_created, info.state.last_seq

    async def last(self) -> int:
        """The sequence of the last outcome that is still there; 0 for none.

        Raises `StreamMissing` and `ClientError`.
        """
        found = await self._bucket.leader_get(_OUTCOMES)
        return 0 if found is None else found.sequence

    async def pages(
        self, after: int, *, max_messages: int = 1000
    ) -> AsyncGenerator[OutcomePage, None]:
        """The outcomes after a sequence, at most `max_messages` a page, and then new ones.

        It never ends by itself. Raises `PullLost` and other `ClientError`s if the connection or the
        consumer is lost: then go on after the last page.
        """
        async with ordered_consumer(
            *(self._client, self._bucket.stream),
            after=after,
            buffer=2 * max_messages,
            name="outcomes",
            subject=self._bucket.subject(_OUTCOMES),
        ) as consumer:
            while True:
                taken = await consumer.take(max_messages)
                read = [OutcomeRecord.of(message, delivery) for message, delivery in taken]
                outcomes = [each for each in read if each is not None]
                yield OutcomePage(outcomes, consumer.position, consumer.pending)


def about(codec: Codec, received: ReceivedCommand) -> str:
    """The lines of headers with the metadata of a command, whether or not it could be decoded."""
    command = received.content
    if isinstance(command, DecodedCommand):
        lines = _of_decoded(command)
    else:
        lines = header_lines(_of_undecoded(codec, received))
    delivery = received.delivery
    accepted_at, delivered = format_timestamp(instant(delivery.time)), delivery.delivered
    return f"{lines}{_ACCEPTED_AT}: {accepted_at}\r\n{_DELIVERIES}: {delivered}\r\n"


def _of_decoded(command: DecodedCommand) -> str:
    """The lines of what was checked when it was decoded."""
    envelope, identity = command.envelope, command.identity
    lines = (
        f"{Header.EVENT_TYPE}: {envelope.type}\r\n"
        f"{Header.CORRELATION_ID}: {identity.correlation_id}\r\n"
        f"{Header.CAUSATION_ID}: {identity.causation_id}\r\n"
    )
    return lines + optional_lines(envelope.actor, envelope.authenticated_as, command.digest, None)


def _of_undecoded(codec: Codec, received: ReceivedCommand) -> dict[str, str]:
    """The headers that are legal by themselves, of a message that could not be decoded."""
    given = received.headers
    correlation, causation = (
        legal_value(given, name) for name in (Header.CORRELATION_ID, Header.CAUSATION_ID)
    )
    root = correlation or causation or received.command_id
    headers = {Header.CORRELATION_ID: root, Header.CAUSATION_ID: causation or root}
    if (actor := legal_value(given, Header.ACTOR)) is not None:
        headers[Header.ACTOR] = actor
    with suppress(UnknownType):
        subject = Subject.split(received.message.subject)
        headers[Header.EVENT_TYPE] = codec.command_type(subject.aggregate, subject.action).__name__
    return headers


def _time(text: str) -> datetime | None:
    try:
        return parse_timestamp(text)
    except ValueError:
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None
