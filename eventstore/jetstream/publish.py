"""Publishing one message, or an atomic batch of several (ADR-50), with the stream's ack.

nats-py has neither batches nor a size check that counts headers: an oversized message makes the
server close the connection for good. Both are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from eventstore.client.api_answers import read_answer
from eventstore.client.client import Client, Msg, is_unanswerable
from eventstore.client.protocol import Headers, header_block, header_lines, read_headers
from eventstore.errors import (
    BatchTooLarge,
    EventTooLarge,
    InvalidAnswer,
    JetStreamError,
    NoResponders,
    QueueFull,
)
from eventstore.jetstream.vocabulary import ErrorCode, NatsHeader
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import POSITION
from eventstore.messages.undecodable import UNDECODABLE

_EMPTY_BLOCK = len(header_block(""))

MAX_HEADERS = 65_535
"""Bytes of headers that a stream accepts (the server's error 10097)."""

MAX_BATCH = 1_000
"""Messages in one atomic batch, by the server's default configuration."""

PUBLICATION_HEADERS = sum(
    len(f"{name}: {2**64}\r\n") for name in (POSITION, NatsHeader.EXPECTED_LAST_SEQUENCE)
)
"""Maximum bytes of headers that an event of the log gains when it is published by itself."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message to be published, with the lines of its headers; `type` is for the text of errors.

    A header must not be added twice.
    """

    subject: str
    lines: str
    payload: bytes
    type: str

    @classmethod
    def of(cls, subject: str, headers: Mapping[str, str], payload: bytes, type: str) -> Draft:  # noqa: A002
        """A message with these headers; raises `InvalidHeader`."""
        return cls(subject, header_lines(headers), payload, type)

    @property
    def headers(self) -> dict[str, str]:
        """The headers, as they will be read."""
        return read_headers(header_block(self.lines))

    def plus(self, lines: str) -> Draft:
        """The same with further headers."""
        return Draft(self.subject, self.lines + lines, self.payload, self.type)


class PubAck(msgspec.Struct, frozen=True, gc=False):
    """The stream's ack: `seq` is the sequence of the (last) message.

    For a batch, also its id and its number of messages.
    """

    stream: Annotated[str, Meta(min_length=1)]
    seq: Annotated[int, Meta(ge=1)]
    duplicate: bool = False
    batch: str | None = None
    count: int | None = None


class _PlainAck(PubAck, frozen=True):
    """An ack that is no error, which has the same fields and one more."""

    error: None = None


_decode_ack = msgspec.json.Decoder(_PlainAck).decode


def check_sizes(drafts: Sequence[Draft], max_payload: int, *, added: int = 0) -> None:
    """Raise `BatchTooLarge` or `EventTooLarge` for what the server would refuse.

    `max_payload` is in bytes, and includes headers; `added` are bytes of headers that each draft
    will gain.
    """
    if len(drafts) > MAX_BATCH:
        raise BatchTooLarge(len(drafts), MAX_BATCH)
    for draft in drafts:
        headers = _EMPTY_BLOCK + _size(draft.lines) + added
        size = headers + len(draft.payload)
        if headers > MAX_HEADERS:
            raise EventTooLarge(draft.type, "headers", headers, MAX_HEADERS)
        if size > max_payload:
            raise EventTooLarge(draft.type, "headers and payload", size, max_payload)


def guarded(drafts: Sequence[Draft], expected: Mapping[str, int]) -> list[Draft]:
    """The drafts with the headers that make them one atomic append.

    `expected` holds, for each subject, the sequence of its last message (0: none); it guards the
    first draft of each subject, because the server refuses a second check of it (10164).
    """
    unguarded = dict(expected)
    messages = []
    for draft, lines in zip(drafts, batch_lines(len(drafts)), strict=True):
        if draft.subject in unguarded:
            lines += guard_line(unguarded.pop(draft.subject))
        messages.append(draft.plus(lines) if lines else draft)
    return messages


async def publish(
    client: Client,
    messages: Sequence[Draft],
    timeout: float,
    stream: str | None = None,
    *,
    asking: bool = False,
) -> PubAck:
    """Send the result of `guarded`, and wait for the stream's ack; all are recorded or none.

    `asking` also waits for an answer to the first message of each subject, a round trip each, which
    distinguishes a forbidden subject from an incomplete batch.

    Raises `JetStreamError` with the server's error code, or another `ClientError` if there was no
    answer (or not `stream`'s); the messages may have been recorded all the same.
    """
    sent = messages
    if asking:
        await _ask(client, messages[:-1], messages[-1].subject, timeout)
        sent = messages[-1:]
    return read_publication(messages, await client.exchange(sent, timeout=timeout), stream)


def read_publication(messages: Sequence[Draft], reply: Msg, stream: str | None = None) -> PubAck:
    """Read the answer to messages that were sent; raises what `publish` raises."""
    last, count = messages[-1], len(messages)
    if not reply.data and is_unanswerable(reply):
        raise _no_stream(last.subject)
    ack = read_ack(last.subject, reply.data, stream)
    if count > 1 and not ack.duplicate:
        _check_batch(ack, last, count)
    return ack


async def _ask(client: Client, leading: Sequence[Draft], last: str, timeout: float) -> None:
    """Send messages of a batch, and wait for the answer to the first of each subject."""
    answered = {last}
    for message in leading:
        subject, headers = message.subject, message.lines
        if subject in answered:
            await client.publish(subject, message.payload, headers=headers)
            continue
        answered.add(subject)
        reply = await client.request(subject, message.payload, headers=headers, timeout=timeout)
        if reply.data:  # an error
            read_ack(subject, reply.data)


def _check_batch(ack: PubAck, last: Draft, count: int) -> None:
    if ack.count != count or f"{NatsHeader.BATCH_ID}: {ack.batch}\r\n" not in last.lines:
        raise InvalidAnswer(
            f"{last.subject}: {count} messages were sent as one batch, and {ack.count} of another "
            "were acknowledged"
        )


async def publish_acked(
    client: Client,
    subject: str,
    payload: bytes,
    headers: Headers | None = None,
    timeout: float = 5.0,
    stream: str | None = None,
) -> PubAck:
    """Publish one message and wait for the stream's ack; raises as `publish` does.

    An ack of another stream than `stream` is refused, if that is given.
    """
    lines = headers if isinstance(headers, str) else header_lines(headers or {})
    draft = Draft(subject, lines, payload, subject)
    return read_publication((draft,), await client.exchange((draft,), timeout=timeout), stream)


def _no_stream(subject: str) -> NoResponders:
    return NoResponders(
        f"no stream takes {subject}: it has no leader at the moment, or there is none: then "
        "declare the topology, and enable JetStream"
    )


def read_ack(subject: str, data: bytes, stream: str | None = None) -> PubAck:
    """Read a stream's ack of a message on a subject.

    Raises `JetStreamError` for an error, `InvalidAnswer` for anything else than an ack, and for
    that of another stream than `stream`.
    """
    try:
        ack: PubAck = _decode_ack(data)
    except UNDECODABLE:
        ack = read_answer(subject, data, _PlainAck)  # raises what is wrong
    if stream is not None and ack.stream != stream:
        raise InvalidAnswer(f"{subject}: stream {ack.stream[:80]!r} answered, not {stream}")
    return ack


async def publish_queued(
    client: Client, draft: Draft, timeout: float = 5.0, *, stream: str
) -> PubAck:
    """Publish a command; raises `QueueFull` at the queue's limit, and as `publish` does."""
    return read_queued(draft.subject, await client.exchange((draft,), timeout=timeout), stream)


def read_queued(subject: str, reply: Msg, stream: str) -> PubAck:
    """Read the answer to a command; raises what `publish_queued` raises."""
    if not reply.data and is_unanswerable(reply):
        raise _no_stream(subject)
    try:
        return read_ack(subject, reply.data, stream)
    except JetStreamError as error:
        if error.err_code == ErrorCode.STREAM_STORE_FAILED:
            raise QueueFull(subject) from error
        raise


def batch_lines(count: int) -> list[str]:
    """The lines of headers that make messages one atomic batch."""
    if count == 1:  # a batch of one would be ten times slower
        return [""]
    start = f"{NatsHeader.BATCH_ID}: {new_id()}\r\n{NatsHeader.BATCH_SEQUENCE}: "
    lines = [f"{start}{number}\r\n" for number in range(1, count + 1)]
    lines[-1] += f"{NatsHeader.BATCH_COMMIT}: 1\r\n"
    return lines


def guard_line(sequence: int) -> str:
    """The line of the header that guards a subject, whose last message has this sequence."""
    return f"{NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE}: {sequence}\r\n"


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
