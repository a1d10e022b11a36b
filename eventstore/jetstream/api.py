"""Requests to JetStream's API about streams and consumers.

Each raises `StreamMissing` where the server has no such stream, `JetStreamError` for its other
errors, and a `ClientError` where no answer came. `timeout` is seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from eventstore.client.api_answers import ConsumerInfo, Done, StreamInfo
from eventstore.client.client import Client
from eventstore.errors import JetStreamError, StreamMissing
from eventstore.jetstream.vocabulary import ErrorCode

__all__ = ["create_consumer", "delete_consumer", "stream_info"]

T = TypeVar("T")

_SECONDS = 5.0


async def stream_info(client: Client, stream: str, *, timeout: float = _SECONDS) -> StreamInfo:
    """A stream's configuration and state."""
    return await _ask(client, "STREAM.INFO", stream, answer=StreamInfo, timeout=timeout)


async def create_consumer(
    client: Client, stream: str, name: str, config: Mapping[str, Any]
) -> ConsumerInfo:
    """Create a consumer; raises `JetStreamError` where there is one with another configuration."""
    config = {"name": name, **config}
    body = {"stream_name": stream, "config": config, "action": "create"}
    return await _ask(client, "CONSUMER.CREATE", stream, name, body=body, answer=ConsumerInfo)


async def delete_consumer(
    client: Client, stream: str, name: str, *, timeout: float = _SECONDS
) -> None:
    """Delete a consumer."""
    await _ask(client, "CONSUMER.DELETE", stream, name, answer=Done, timeout=timeout)


async def _ask(
    client: Client,
    request: str,
    stream: str,
    *names: str,
    answer: type[T],
    body: object = None,
    timeout: float = _SECONDS,
) -> T:
    suffix = ".".join((request, stream, *names))
    try:
        return await client.api(suffix, body, timeout=timeout, answer=answer)
    except JetStreamError as error:
        if error.err_code == ErrorCode.STREAM_NOT_FOUND:
            raise StreamMissing(
                f"stream {stream} does not exist; declare the topology first"
            ) from error
        raise
