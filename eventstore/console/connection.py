"""The console's connection: made in the background, and made again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from eventstore.client.client import Client, connect
from eventstore.concurrency.backoff import Backoff, pause
from eventstore.concurrency.supervisor import Supervisor
from eventstore.config import Settings
from eventstore.errors import ConnectFailed, EventStoreError
from eventstore.messages.text import make_log_records_safe

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_CHECK_SECONDS = 0.5

_logger = make_log_records_safe(logging.getLogger(__name__))


class Connection:
    """A client while there is a server; a component to be run.

    The first connect is retried for ever, so that the console can be started before its server.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = _one_attempt(settings)
        self._name = name
        self._client: Client | None = None
        self._stopping = asyncio.Event()
        self._supervisor = Supervisor(
            "console",
            _logger,
            Backoff(_FIRST_PAUSE, _LONGEST_PAUSE),
            passes=lambda error: isinstance(error, EventStoreError),
            interrupt=self._stopping,
        )
        self.ready = asyncio.Event()

    @property
    def client(self) -> Client:
        """The client; raises the `EventStoreError` for which there is none yet."""
        if self._client is None:
            error = self._supervisor.error
            if isinstance(error, EventStoreError):
                raise error
            raise ConnectFailed("the console is connecting to the server")
        return self._client

    def stop(self) -> None:
        """Close the connection, and have `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Be connected until `stop`."""
        while not self._stopping.is_set():
            await self._supervisor.run(self._connected)

    async def _connected(self) -> None:
        if self._stopping.is_set():
            return
        async with connect(self._settings, name=self._name) as client:
            self._client = client
            self._supervisor.recovered()
            self.ready.set()
            try:
                while not (client.is_closed or self._stopping.is_set()):
                    await pause(_CHECK_SECONDS, self._stopping)
            finally:
                self._client = None


def _one_attempt(settings: Settings) -> Settings:
    retry = replace(settings.nats.retry, first_connect_ms=0)
    return replace(settings, nats=replace(settings.nats, retry=retry))
