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
from eventstore.client.client import Client
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

MAX_HEADERS = 65_535
"""Bytes of headers that a stream accepts (the server's error 10097)."""

MAX_BATCH = 1_000
"""Messages in one atomic batch, by the server's default configuration."""

PUBLICATION_HEADERS = sum(
    len(f"{name}: {2**64}\r\n") for name in (POSITION, NatsHeader.EXPECTED_LAST_SEQUENCE)
)
"""Maximum bytes of headers that an event of the log gains when it is published by itself."""


class Draft(msgspec.Struct, frozen=True):
    """A message to be published; `type` is for the text of errors."""

    subject: str
    headers: dict[str, str]
    payload: bytes
    type: str


class PubAck(msgspec.Struct, frozen=True):
    """The stream's ack: `seq` is the sequence of the (last) message.

    For a batch, also its id and its number of messages.
    """

    stream: Annotated[str, Meta(min_length=1)]
    seq: Annotated[int, Meta(ge=1)]
    duplicate: bool = False
    batch: str | None = None
    count: int | None = None


def check_sizes(drafts: Sequence[Draft], max_payload: int, *, added: int = 0) -> None:
    """Raise `BatchTooLarge` or `EventTooLarge` for what the server would refuse.

    `max_payload` is in bytes, and includes headers; `added` are bytes of headers that each draft
    will gain.
    """
    if len(drafts) > MAX_BATCH:
        raise BatchTooLarge(len(drafts), MAX_BATCH)
    for draft in drafts:
        headers = _header_size(draft.headers) + added
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
    batch = _batch_headers(len(drafts))
    messages = []
    for draft, extra in zip(drafts, batch, strict=True):
        headers = {**draft.headers, **extra}
        if draft.subject in unguarded:
            headers[NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(unguarded.pop(draft.subject))
        messages.append(Draft(draft.subject, headers, draft.payload, draft.type))
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
    last = messages[-1]
    answered = {last.subject}
    for message in messages[:-1]:
        if asking and message.subject not in answered:
            answered.add(message.subject)
            await _begin(client, message, timeout)
        else:
            await client.publish(message.subject, message.payload, headers=message.headers)
    ack = await publish_acked(client, last.subject, last.payload, last.headers, timeout, stream)
    batch = last.headers.get(NatsHeader.BATCH_ID)
    if not ack.duplicate and batch is not None and (ack.batch, ack.count) != (batch, len(messages)):
        raise InvalidAnswer(
            f"{last.subject}: {len(messages)} messages were sent as one batch, and {ack.count} "
            "of another were acknowledged"
        )
    return ack


async def _begin(client: Client, message: Draft, timeout: float) -> None:
    """Send a message of a batch, but not its last; the answer is empty, or an error."""
    subject, headers = message.subject, message.headers
    reply = await client.request(subject, message.payload, headers=headers, timeout=timeout)
    if reply.data:
        read_ack(subject, reply.data)


async def publish_acked(
    client: Client,
    subject: str,
    payload: bytes,
    headers: dict[str, str] | None = None,
    timeout: float = 5.0,
    stream: str | None = None,
) -> PubAck:
    """Publish one message and wait for the stream's ack; raises as `publish` does.

    An ack of another stream than `stream` is refused, if that is given.
    """
    try:
        reply = await client.request(subject, payload, headers=headers, timeout=timeout)
    except NoResponders:
        raise NoResponders(
            f"no stream has the subject {subject}: declare the topology, and enable JetStream"
        ) from None
    return read_ack(subject, reply.data, stream)


def read_ack(subject: str, data: bytes, stream: str | None = None) -> PubAck:
    """Read a stream's ack of a message on a subject.

    Raises `JetStreamError` for an error, `InvalidAnswer` for anything else than an ack, and for
    that of another stream than `stream`.
    """
    ack = read_answer(subject, data, PubAck)
    if stream is not None and ack.stream != stream:
        raise InvalidAnswer(f"{subject}: stream {ack.stream[:80]!r} answered, not {stream}")
    return ack


async def publish_queued(
    client: Client,
    subject: str,
    payload: bytes,
    headers: dict[str, str],
    timeout: float = 5.0,
    stream: str | None = None,
) -> PubAck:
    """Publish a command; raises `QueueFull` at the queue's limit, and as `publish` does."""
    try:
        return await publish_acked(client, subject, payload, headers, timeout, stream)
    except JetStreamError as error:
        if error.err_code == ErrorCode.STREAM_STORE_FAILED:
            raise QueueFull(subject) from error
        raise


def _batch_headers(count: int) -> list[dict[str, str]]:
    if count == 1:  # a batch of one would be ten times slower
        return [{}]
    batch = new_id()
    headers = [
        {NatsHeader.BATCH_ID: batch, NatsHeader.BATCH_SEQUENCE: str(number)}
        for number in range(1, count + 1)
    ]
    headers[-1][NatsHeader.BATCH_COMMIT] = "1"
    return headers


def _header_size(headers: Mapping[str, str]) -> int:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return len(f"NATS/1.0\r\n{lines}\r\n".encode())
