"""Isolation: a server that is cut off from the others of its cluster is left for one of them.

The connection to such a server stays, and requests about the streams, whose leaders are elsewhere,
are not answered.
"""

from __future__ import annotations

import asyncio
import logging

from eventstore.client.client import Client
from eventstore.concurrency.backoff import Backoff, pause
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.api import stream_info
from eventstore.messages.text import make_log_records_safe

_MAX_FAILURES = 2

_logger = make_log_records_safe(logging.getLogger(__name__))


class IsolationWatch:
    """Asks the leader of a stream every `interval` seconds; a component to be run.

    After two requests in a row that were not answered within as long, or by no leader, the client
    reconnects to another server, if it knows one: of the settings, or of the cluster. If that
    changes nothing, the next one follows, after pauses of up to a minute.
    """

    def __init__(self, client: Client, stream: str, *, interval: float = 5.0) -> None:
        self._client = client
        self._stream = stream
        self._interval = interval
        self._backoff = Backoff(interval, max(interval, 60.0), jitter=0)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Watch until `stop`."""
        failures = moves = 0
        while not await pause(self._backoff.delay(moves + 1), self._stopping):
            problem = await self._problem()
            if problem is None:
                failures = moves = 0
                continue
            failures += 1
            if failures < _MAX_FAILURES:
                continue
            left = self._client.url
            if await self._client.leave_server():
                _logger.warning("left %s for another server: %s", left, problem)
                moves += 1
            failures = 0

    async def _problem(self) -> str | None:
        """Why the server may be isolated; None if it is not, or there is no connection."""
        if not self._client.is_connected:
            return None
        try:
            info = await stream_info(self._client, self._stream, timeout=self._interval)
        except StreamMissing:
            return None
        except ClientError as error:
            return str(error) if error.retryable and self._client.is_connected else None
        return None if info.has_leader else f"stream {self._stream} has no leader there"
