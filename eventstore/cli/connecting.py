"""The connection of a subcommand that needs a running service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from eventstore.cli.terminal import program
from eventstore.client.client import Client, connect
from eventstore.client.master_keys import KeyWrapping
from eventstore.config import Settings
from eventstore.errors import (
    ConnectFailed,
    ConnectionLost,
    JetStreamError,
    NoJetStream,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    StreamMissing,
)
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.vocabulary import Api
from eventstore.messages.codec import Codec

__all__ = ["connected", "log_end"]

_INFO_SECONDS = 2.0


@asynccontextmanager
async def connected(
    settings: Settings, *, key_wrapping: KeyWrapping | None = None
) -> AsyncIterator[Client]:
    """A client; where there is no server, or nothing on it, the error says what to do."""
    advice = f"start a service with `{program()} serve`, or name its server with --nats-url"
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(connect(settings, key_wrapping=key_wrapping))
        except ConnectFailed as error:
            raise ConnectFailed(f"{error}; {advice}") from error
        try:
            yield client
        except NoJetStream:
            raise
        except (NoResponders, StreamMissing) as error:
            await _check_jetstream(client)
            raise type(error)(f"{client.url}: {error}; {advice}") from error


async def _check_jetstream(client: Client) -> None:
    """Raise `NoJetStream` where that is why nobody answers; who may not ask does not know."""
    with suppress(JetStreamError, RequestTimeout, ConnectionLost, PermissionDenied):
        await client.api(Api.ACCOUNT_INFO, timeout=_INFO_SECONDS)


async def log_end(client: Client, codec: Codec) -> int:
    """The position of the last event in the log; raises `StreamMissing`, `ClientError`."""
    return (await stream_info(client, codec.subjects.log_stream)).state.last_seq
