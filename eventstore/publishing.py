"""Publishing to the log: one message, or an atomic batch of several (ADR-50), and its answer.

nats-py knows neither batches nor a size guard that counts headers: an oversized message makes it
close its connection for good. Both are here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventstore.client import Client
from eventstore.envelope import new_id
from eventstore.errors import BatchTooLarge, EventTooLarge, JetStreamError, NoResponders

__all__ = ["Draft", "PubAck", "check_sizes", "publish", "publish_acked"]

MAX_HEADERS = 65_535
"""Bytes of headers that a stream takes (the server's error 10097)."""

MAX_BATCH = 1_000
"""Messages that the server takes in one atomic batch, unless configured otherwise."""

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class Draft(msgspec.Struct, frozen=True):
    """A message ready to be sent: all but the headers that guard and batch it."""

    subject: str
    headers: dict[str, str]
    payload: bytes
    type: str


class PubAck(msgspec.Struct, frozen=True):
    """The stream's answer: `seq` is the position of the (last) message."""

    seq: int
    duplicate: bool = False


class _Error(msgspec.Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def check_sizes(drafts: Sequence[Draft], max_payload: int) -> None:
    """Raise `BatchTooLarge` or `EventTooLarge` for what the server would not take.

    `max_payload` counts headers and payload, in bytes.
    """
    if len(drafts) > MAX_BATCH:
        raise BatchTooLarge(len(drafts), MAX_BATCH)
    for draft in drafts:
        headers = _header_size(draft.headers)
        if headers > MAX_HEADERS:
            raise EventTooLarge(draft.type, "headers", headers, MAX_HEADERS)
        if headers + len(draft.payload) > max_payload:
            size = headers + len(draft.payload)
            raise EventTooLarge(draft.type, "headers and payload", size, max_payload)


async def publish(
    client: Client, drafts: Sequence[Draft], expected: dict[str, int], timeout: float
) -> PubAck:
    """Send the drafts and wait for the stream's answer; all are recorded or none.

    `expected` holds, for each subject, the sequence of its last message (0: none); it guards the
    first draft of each subject. Raises `JetStreamError` with the server's number, or a
    `ClientError` where no answer came; then they may have been recorded all the same.
    """
    guarded = _guarded(drafts, expected)
    if len(drafts) == 1:
        (draft,) = drafts
        return await publish_acked(client, draft.subject, draft.payload, guarded[0], timeout)
    batch = new_id()
    last = len(drafts)
    for number, (draft, headers) in enumerate(zip(drafts, guarded, strict=True), start=1):
        headers["Nats-Batch-Id"] = batch
        headers["Nats-Batch-Sequence"] = str(number)
        if number < last:
            await client.publish(draft.subject, draft.payload, headers=headers)
    headers["Nats-Batch-Commit"] = "1"
    return await publish_acked(client, draft.subject, draft.payload, headers, timeout)


async def publish_acked(
    client: Client,
    subject: str,
    payload: bytes,
    headers: dict[str, str] | None = None,
    timeout: float = 5.0,
) -> PubAck:
    """Publish one message and wait for the stream's answer; raises as `publish` does."""
    try:
        reply = await client.request(subject, payload, headers=headers, timeout=timeout)
    except NoResponders:
        raise NoResponders(
            f"no stream takes {subject}: declare the topology, and see that JetStream is on"
        ) from None
    answer = _decode(reply.data)
    if answer.error is not None:
        error = answer.error
        raise JetStreamError(error.err_code, error.code, error.description)
    return PubAck(answer.seq, answer.duplicate)


def _guarded(drafts: Sequence[Draft], expected: dict[str, int]) -> list[dict[str, str]]:
    # A second check of the same subject in a batch would be refused (10164).
    unguarded = dict(expected)
    return [
        {**draft.headers, _EXPECTED: str(unguarded.pop(draft.subject))}
        if draft.subject in unguarded
        else dict(draft.headers)
        for draft in drafts
    ]


# What the guard and the batch may add to the headers of a draft.
_ADDED = len(_EXPECTED) + 24 + len("Nats-Batch-Id: Nats-Batch-Sequence: Nats-Batch-Commit: ") + 64


def _header_size(headers: dict[str, str]) -> int:
    size = len("NATS/1.0\r\n\r\n") + _ADDED
    for name, value in headers.items():
        size += len(name) + len(value.encode()) + 4
    return size
