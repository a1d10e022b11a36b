"""A session: the settings of one run of a subcommand, and the connections it opens with them."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from eventstore.actions import ActionLog
from eventstore.application import Application
from eventstore.application.server import opened_server
from eventstore.cli.applications import find_application, is_named
from eventstore.cli.output.terminal import program
from eventstore.client.client import Client, connect
from eventstore.client.master_keys import KeyWrapping
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.errors import (
    ConnectFailed,
    ConnectionLost,
    JetStreamError,
    NoJetStream,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    StreamMissing,
    UnknownType,
)
from eventstore.jetstream.ownership import known_aggregates
from eventstore.jetstream.vocabulary import Api
from eventstore.messages.codec import Codec
from eventstore.messages.subjects import Subjects
from eventstore.store.store import EventStore

if TYPE_CHECKING:  # subcommands that need no database load no SQLAlchemy
    from eventstore.projections.projection import Projection

_INFO_SECONDS = 2.0

T = TypeVar("T")


class Session:
    """The settings of one run, loaded when they are first needed, and what is opened with them.

    `directory` is for the data of an embedded server.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        directory: Path = Path("var"),
        *,
        find: Callable[[], Application] = find_application,
        named: Callable[[], bool] = is_named,
    ) -> None:
        self._load = load
        self._find = find
        self._named = named
        self.directory = directory

    def with_settings(self, settings: Settings) -> Session:
        """The same with other settings."""
        return Session(lambda: settings, self.directory, find=self._find, named=self._named)

    @cached_property
    def app(self) -> Application:
        """The application; raises `ConfigurationError`."""
        return self._find()

    @cached_property
    def knows_types(self) -> bool:
        """Whether the application is named, so that the log's types have to be among its own."""
        return self._named()

    @cached_property
    def settings(self) -> Settings:
        """The settings for the application; raises `ConfigurationError`."""
        return self.app.settings(self._load())

    @cached_property
    def domain(self) -> Domain:
        """The application's domain, under its own name or that of the settings."""
        return self.app.domain.renamed(self.settings.nats.subject_prefix or self.app.name)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The application's projections, and the audit index."""
        from eventstore.projections.audit import audit

        return (*self.app.projections, audit)

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
    async def recorded(
        self, client: Client, action: str, target: object = ""
    ) -> AsyncIterator[None]:
        """Record what the block does to a target as an action of this user of the machine.

        See `ActionLog.recorded` for what is raised.
        """
        async with ActionLog(client, self.subjects).recorded(action, str(target), _user()):
            yield

    async def check_aggregate(self, client: Client, aggregate: str) -> None:
        """Raise `UnknownType` unless the application knows this kind of aggregate.

        If none is named, it suffices that the log's metadata list it.
        """
        try:
            self.codec.check_aggregate(aggregate)
        except UnknownType:
            if self.knows_types:
                raise
            if aggregate not in await known_aggregates(client, self.subjects.log_stream):
                raise

    @asynccontextmanager
    async def open_store(self, action: str, target: str) -> AsyncIterator[EventStore]:
        """The log, on the server that is named or running, or else on an embedded one.

        What the block does with it is recorded; see `recorded`.
        """
        async with (
            opened_server(self.settings, self.directory) as named,
            self.connect(named) as client,
            self.recorded(client, action, target),
            EventStore(client, self.codec) as store,
        ):
            yield store


def _user() -> str:
    """The name of the machine's user, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
