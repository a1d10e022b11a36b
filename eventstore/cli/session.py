"""A session: the settings of one run of a subcommand, and the connections it opens with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from eventstore import nix
from eventstore.cli.output.terminal import program
from eventstore.client.client import Client, connect
from eventstore.client.master_keys import KeyWrapping
from eventstore.config import Settings, redacted_url
from eventstore.decider.decider import Domain
from eventstore.errors import (
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    JetStreamError,
    NoJetStream,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    ServerStartFailed,
    StreamMissing,
)
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.vocabulary import Api
from eventstore.messages.codec import Codec
from eventstore.messages.subjects import Subjects
from eventstore.server.embedded import EmbeddedServer, running_server
from eventstore.store.store import EventStore

_INFO_SECONDS = 2.0

T = TypeVar("T")


class Session:
    """The settings of one run, loaded when they are first needed, and what is opened with them.

    `directory` is for the data of an embedded server.
    """

    def __init__(self, load: Callable[[], Settings], directory: Path = Path("var")) -> None:
        self._load = load
        self.directory = directory

    @cached_property
    def settings(self) -> Settings:
        """The settings; raises `ConfigurationError`."""
        return self._load()

    @cached_property
    def domain(self) -> Domain:
        """The Nix domain with the settings' subject prefix."""
        return nix.domain(self.settings.nats.subject_prefix)

    @property
    def codec(self) -> Codec:
        """The domain's codec."""
        return self.domain.codec

    @property
    def subjects(self) -> Subjects:
        """The domain's subjects."""
        return self.codec.subjects

    @asynccontextmanager
    async def connect(
        self, settings: Settings | None = None, *, key_wrapping: KeyWrapping | None = None
    ) -> AsyncIterator[Client]:
        """A client, connected with other `settings` if given.

        Raises what `Client` raises; if there is no server, or no service on it, the error says
        what to do.
        """
        advice = f"start a service with `{program()} serve`, or name its server with --nats-url"
        connecting = connect(settings or self.settings, key_wrapping=key_wrapping)
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(connecting)
            except ConnectFailed as error:
                raise ConnectFailed(f"{error}; {advice}") from error
            try:
                yield client
            except NoJetStream:
                raise
            except (NoResponders, StreamMissing) as error:
                # A user who may not ask for it cannot know whether JetStream is missing.
                with suppress(JetStreamError, RequestTimeout, ConnectionLost, PermissionDenied):
                    await client.api(Api.ACCOUNT_INFO, timeout=_INFO_SECONDS)
                raise type(error)(f"{client.url}: {error}; {advice}") from error

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[EventStore]:
        """The log, on the server that is named or running, or else on an embedded one."""
        async with (
            opened_server(self.settings, self.directory) as named,
            self.connect(named) as client,
            EventStore(client, self.codec) as store,
        ):
            yield store


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop if that is installed; Ctrl-C cancels and cleans up."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory) as runner:
            return runner.run(main)
    finally:
        main.close()  # Ctrl-C may have come before it began


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def log_end(client: Client, codec: Codec) -> int:
    """The position of the last event in the log; raises `StreamMissing`, `ClientError`."""
    return (await stream_info(client, codec.subjects.log_stream)).state.last_seq


def server_directory(directory: Path) -> Path:
    """The embedded server's own part of a directory."""
    return directory / "nats"


@asynccontextmanager
async def opened_server(settings: Settings, directory: Path) -> AsyncIterator[Settings]:
    """Settings for the server that is named, or for an embedded one that runs meanwhile."""
    if settings.nats.url:
        yield settings
        return
    server = EmbeddedServer(server_directory(directory))
    try:
        await server.start()
    except OSError as error:
        raise ConfigurationError(f"--dir {directory} cannot be used: {error}") from error
    except ServerStartFailed as error:
        if (other := running_server(server_directory(directory))) is None:
            raise
        raise ServerStartFailed(
            f"a service runs in {directory} already, on {redacted_url(other)}: talk to it with "
            "send, events or nix import; or stop it; or choose another directory for this one "
            "with --dir"
        ) from error
    try:
        yield settings.with_url(server.url)
    finally:
        await server.stop()
