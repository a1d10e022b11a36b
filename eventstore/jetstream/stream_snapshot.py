"""Snapshots of whole streams, made and restored by the server.

A snapshot has a stream's messages with their sequences, times and headers, and its consumers with
their positions, in a form that only a server reads. It is of one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct

from eventstore.client.api_answers import Count, StreamInfo, decimal, read_answer
from eventstore.client.client import Client, Msg
from eventstore.errors import ConnectionLost, InvalidAnswer, JetStreamError, RequestTimeout
from eventstore.jetstream.api import stream_request
from eventstore.jetstream.vocabulary import SNAPSHOT_ACK_PREFIX, Api

CHUNK_BYTES = 128 * 1024
"""Bytes in a chunk at most; a connection's maximum payload may make them smaller."""

_CHUNK_SECONDS = 30.0
_RESTORE_SECONDS = 300.0
_HEADROOM = 4096
_COMPLETE = 204


class _State(Struct, frozen=True):
    """What is known of a stream's state, of which the server wants to see all again."""

    messages: Count
    bytes: Count
    first_seq: Count
    last_seq: Count


class SnapshotOrigin(Struct, frozen=True):
    """The stream that a snapshot is of: its configuration and state, as the server sends them."""

    config: dict[str, Any]
    state: dict[str, Any]

    def __post_init__(self) -> None:
        msgspec.convert(self.state, _State)

    @property
    def messages(self) -> int:
        """The number of messages."""
        return msgspec.convert(self.state, _State).messages

    @property
    def bytes(self) -> int:
        """The size of the messages, before compression."""
        return msgspec.convert(self.state, _State).bytes

    @property
    def first(self) -> int:
        """The sequence of the first message."""
        return msgspec.convert(self.state, _State).first_seq

    @property
    def last(self) -> int:
        """The sequence of the last message that there ever was."""
        return msgspec.convert(self.state, _State).last_seq


class _RestoreBegun(Struct, frozen=True):
    """Where the chunks of a snapshot that is restored are sent."""

    deliver_subject: str


async def take_snapshot(
    client: Client, stream: str, write: Callable[[bytes], None]
) -> SnapshotOrigin:
    """Have the stream's leader send a snapshot, whose chunks are passed to `write`.

    No more than a few MB are under way: the server waits until chunks are written. Raises
    `StreamMissing`, `ConnectionLost` as soon as the connection breaks, `RequestTimeout` if half a
    minute passes without a chunk, and other `ClientError`s.
    """
    inbox = client.new_inbox()
    body = {"deliver_subject": inbox, "chunk_size": _chunk_bytes(client)}
    async with _chunks(client, inbox) as chunks:
        origin = await stream_request(
            client, Api.STREAM_SNAPSHOT, stream, body=body, answer=SnapshotOrigin, timeout=60.0
        )
        async for chunk in chunks:
            write(chunk)
    return origin


@asynccontextmanager
async def _chunks(client: Client, inbox: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Chunks as they arrive, each of which is acknowledged when the next one is asked for."""
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()  # bounded by the server's window

    async def put(message: Msg) -> None:
        arrived.put_nowait(message)

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(_CHUNK_SECONDS):
                    message = await arrived.get()
            except TimeoutError:
                raise RequestTimeout(
                    f"no chunk of a snapshot arrived for {_CHUNK_SECONDS:g} s"
                ) from None
            if message is None:
                raise ConnectionLost("the connection broke during a snapshot")
            if not message.data:
                _check_complete(message)
                return
            yield message.data
            if message.reply.startswith(f"{SNAPSHOT_ACK_PREFIX}."):
                await client.publish(message.reply)

    subscription = await client.subscribe(inbox, put)
    unregister = client.on_disconnect(lambda: arrived.put_nowait(None))
    try:
        yield chunks()
    finally:
        unregister()
        await subscription.unsubscribe()


def _check_complete(last: Msg) -> None:
    """Raise the error that the server ends a snapshot with, if it is one."""
    headers = last.headers or {}
    status = decimal(headers.get("Status", "204"))
    if status != _COMPLETE:
        description = headers.get("Description", "")
        raise JetStreamError(0, status or 0, f"the snapshot broke off: {description}")


async def restore_snapshot(
    client: Client,
    origin: SnapshotOrigin,
    changes: Mapping[str, Any],
    chunks: Iterable[bytes],
) -> StreamInfo:
    """Have the server create a stream from a snapshot; `changes` overrule its configuration.

    `chunks` are the snapshot in order, of at most `restore_bytes`. Until the last one has arrived
    there is no stream. Raises `JetStreamError` if the stream exists or the snapshot is damaged, and
    other `ClientError`s, after which it is unknown whether there is one.
    """
    name = str(origin.config["name"])
    body = {"config": {**origin.config, **changes}, "state": origin.state}
    begun = await stream_request(
        client, Api.STREAM_RESTORE, name, body=body, answer=_RestoreBegun, timeout=60.0
    )
    for chunk in chunks:
        answer = await client.request(begun.deliver_subject, chunk, timeout=_CHUNK_SECONDS)
        if answer.data:  # otherwise it goes on
            read_answer(begun.deliver_subject, answer.data, StreamInfo)
            raise InvalidAnswer(f"{name}: the server ended a restore before its last chunk")
    last = await client.request(begun.deliver_subject, timeout=_RESTORE_SECONDS)
    return read_answer(begun.deliver_subject, last.data, StreamInfo)


def restore_bytes(client: Client) -> int:
    """The size of the chunks to restore from."""
    return _chunk_bytes(client)


def _chunk_bytes(client: Client) -> int:
    return min(CHUNK_BYTES, max(client.max_payload - _HEADROOM, 1024))
