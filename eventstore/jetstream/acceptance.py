"""Acceptance: a message with an id is sent again until the stream takes it, while it has no leader.

A stream of several replicas without a leader is not subscribed to its subjects, as one that does
not exist. And while it stores a message, it refuses another one with the same id, as that of a
second connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventstore.client.client import Client
from eventstore.concurrency.backoff import Backoff, Retries
from eventstore.concurrency.batching import own_task
from eventstore.errors import (
    ClientError,
    JetStreamError,
    NoLeader,
    NoResponders,
    PermissionDenied,
    StreamMissing,
)
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.publish import Draft, PubAck, publish_queued
from eventstore.jetstream.vocabulary import TRANSIENT

T = TypeVar("T")

_BACKOFF = Backoff(0.02, 1.0)
_LOOK_SECONDS = 1.0


async def until_accepted(
    client: Client, stream: str, send: Callable[[], Awaitable[T]], timeout: float
) -> T:
    """What `send` returns, which is called again for `timeout` seconds after a passing refusal.

    Nothing may have been stored twice by that: the message needs an id. Raises what `send` raises,
    and `NoLeader` instead of `NoResponders` for a stream that exists.
    """
    retries = Retries(_BACKOFF, timeout)
    while True:
        try:
            return await send()
        except (NoResponders, JetStreamError) as error:
            await own_task()
            if not await _may_pass(client, stream, error):
                raise
            delay = retries.next_delay()
            if delay is None and isinstance(error, NoResponders):
                raise NoLeader(stream) from error
            if delay is None:
                raise
        await asyncio.sleep(delay)


async def queue_command(client: Client, draft: Draft, timeout: float, *, stream: str) -> PubAck:
    """The same as `publish_queued`, until it is accepted."""
    return await until_accepted(
        client, stream, lambda: publish_queued(client, draft, timeout, stream=stream), timeout
    )


async def _may_pass(client: Client, stream: str, error: NoResponders | JetStreamError) -> bool:
    if isinstance(error, JetStreamError):
        return error.err_code in TRANSIENT
    try:
        await stream_info(client, stream, timeout=_LOOK_SECONDS)
    except (StreamMissing, NoResponders, PermissionDenied):
        return False
    except ClientError as unanswered:
        return unanswered.retryable
    return True
