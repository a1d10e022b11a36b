"""Requests to JetStream's API about streams, consumers and messages.

All raise `StreamMissing` if the stream does not exist, `JetStreamError` for other errors of the
server, and other `ClientError`s if there was no answer. `timeout` is seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from eventstore.client.api_answers import ConsumerInfo, ConsumerList, StreamInfo, Success
from eventstore.client.client import Client
from eventstore.errors import JetStreamError, StreamMissing
from eventstore.jetstream.vocabulary import Api, ErrorCode
from eventstore.messages.subjects import Subjects

T = TypeVar("T")

_SECONDS = 5.0


async def stream_info(client: Client, stream: str, *, timeout: float = _SECONDS) -> StreamInfo:
    """A stream's configuration and state."""
    return await stream_request(client, Api.STREAM_INFO, stream, answer=StreamInfo, timeout=timeout)


async def count_messages(client: Client, stream: str, subject: str) -> int:
    """How many messages a stream has of a subject, which may be a wildcard.

    Exact up to 100,000 subjects.
    """
    return sum((await count_by_subject(client, stream, subject)).values())


async def count_by_subject(client: Client, stream: str, subject: str) -> Mapping[str, int]:
    """How many messages a stream has of each subject that matches; at most 100,000 of these."""
    body = {"subjects_filter": subject}
    info = await stream_request(client, Api.STREAM_INFO, stream, body=body, answer=StreamInfo)
    return info.state.subjects or {}


async def find_stream(client: Client, stream: str) -> StreamInfo | None:
    """A stream's configuration and state; None if it does not exist."""
    try:
        return await stream_info(client, stream)
    except StreamMissing:
        return None


async def create_stream(client: Client, stream: str, config: Mapping[str, Any]) -> StreamInfo:
    """Create a stream; raises `JetStreamError` if the name is in use."""
    return await stream_request(client, Api.STREAM_CREATE, stream, body=config, answer=StreamInfo)


async def update_stream(client: Client, stream: str, config: Mapping[str, Any]) -> StreamInfo:
    """Replace a stream's configuration."""
    return await stream_request(client, Api.STREAM_UPDATE, stream, body=config, answer=StreamInfo)


async def create_consumer(
    client: Client, stream: str, name: str, config: Mapping[str, Any]
) -> ConsumerInfo:
    """Create a consumer; raises `JetStreamError` if it exists with another configuration."""
    return await _put_consumer(client, stream, name, config, "create")


async def update_consumer(
    client: Client, stream: str, name: str, config: Mapping[str, Any]
) -> ConsumerInfo:
    """Replace a consumer's configuration; raises `JetStreamError` if it does not exist.

    Its position stays. The deliver policy and the start cannot be changed.
    """
    return await _put_consumer(client, stream, name, config, "update")


async def _put_consumer(
    client: Client, stream: str, name: str, config: Mapping[str, Any], action: str
) -> ConsumerInfo:
    body = {"stream_name": stream, "config": {"name": name, **config}, "action": action}
    return await stream_request(
        client, Api.CONSUMER_CREATE, stream, name, body=body, answer=ConsumerInfo
    )


async def list_consumers(client: Client, stream: str) -> list[ConsumerInfo]:
    """The configurations and states of all consumers of a stream."""
    found: list[ConsumerInfo] = []
    while True:
        page = await stream_request(
            client, Api.CONSUMER_LIST, stream, body={"offset": len(found)}, answer=ConsumerList
        )
        found += page.consumers or []
        if not page.consumers or len(found) >= page.total:
            return found


async def find_consumer(client: Client, stream: str, name: str) -> ConsumerInfo | None:
    """A consumer's configuration and state; None if it does not exist."""
    try:
        return await stream_request(client, Api.CONSUMER_INFO, stream, name, answer=ConsumerInfo)
    except JetStreamError as error:
        if error.err_code == ErrorCode.CONSUMER_NOT_FOUND:
            return None
        raise


async def delete_consumer(
    client: Client, stream: str, name: str, *, timeout: float = _SECONDS
) -> None:
    """Delete a consumer."""
    await stream_request(client, Api.CONSUMER_DELETE, stream, name, answer=Success, timeout=timeout)


async def stream_request(
    client: Client,
    request: Api,
    stream: str,
    *names: str,
    answer: type[T],
    body: object = None,
    timeout: float = _SECONDS,
) -> T:
    """Send any other request about a stream."""
    try:
        return await client.api(request.of(stream, *names), body, timeout=timeout, answer=answer)
    except JetStreamError as error:
        if error.err_code == ErrorCode.STREAM_NOT_FOUND:
            raise StreamMissing(
                f"stream {stream} does not exist; declare the topology first"
            ) from error
        raise


async def log_end(client: Client, subjects: Subjects) -> int:
    """The position of the last event in the log; raises `StreamMissing`, `ClientError`."""
    return (await stream_info(client, subjects.log_stream)).state.last_seq
