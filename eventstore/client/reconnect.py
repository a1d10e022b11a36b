"""Connect attempts: which server is next, after which delay, and for how long at first."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from nats.aio.client import Server

from eventstore.concurrency.backoff import Backoff
from eventstore.config import RetrySettings
from eventstore.errors import ConnectFailed
from eventstore.messages.text import make_log_records_safe

_DEFAULT_SECONDS = 10.0
_QUIET_SECONDS = 3.0
_REPORT_SECONDS = 10.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class ServerRotation:
    """Takes the servers in turn; the delay doubles with each round, up to the limit."""

    def __init__(self, settings: RetrySettings) -> None:
        self._backoff = Backoff(
            settings.reconnect_delay_ms / 1000,
            settings.max_reconnect_delay_ms / 1000,
            jitter=0,
            extra=settings.reconnect_jitter_ms / 1000,
        )
        self._attempts = 0
        self._avoided: str | None = None

    def avoid(self, netloc: str) -> None:
        """Take the server at this host and port after all others, until the next success."""
        self._avoided = netloc

    def next_server(self, servers: list[Server], _: dict[str, Any]) -> tuple[Server, float]:
        """The next server and the seconds to wait before it is tried; what nats-py asks for."""
        servers = sorted(servers, key=lambda each: each.uri.netloc == self._avoided)
        rounds, turn = divmod(self._attempts, len(servers))
        self._attempts += 1
        return servers[turn], self._backoff.delay(rounds + 1)

    def next_round(self) -> float:
        """The seconds to wait before all servers are tried in one attempt."""
        self._attempts += 1
        return self._backoff.delay(self._attempts)

    def reset(self) -> None:
        """Start from the first server and delay, after a success."""
        self._attempts = 0
        self._avoided = None


class FirstConnect:
    """The time limit of the first connect's retries; it begins when this is created.

    A wait of more than three seconds is logged as a warning, immediately and every ten seconds.
    """

    def __init__(self, settings: RetrySettings) -> None:
        limit = settings.first_connect_ms
        self._loop = asyncio.get_running_loop()
        self._seconds = _DEFAULT_SECONDS if limit is None else limit / 1000
        self._end = self._loop.time() + self._seconds
        self._next_report = 0.0

    @property
    def is_over(self) -> bool:
        """Whether there are no further retries."""
        return self._loop.time() >= self._end

    def report(self, error: ConnectFailed) -> None:
        """Log that it is retried, and why, unless that was logged recently."""
        now = self._loop.time()
        if self._seconds > _QUIET_SECONDS and now >= self._next_report:
            self._next_report = now + _REPORT_SECONDS
            left = max(1, round(self._end - now))
            _logger.warning("waiting for a server, %d s more at most: %s", left, error)

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, at most until the limit."""
        await asyncio.sleep(min(seconds, max(0.0, self._end - self._loop.time())))
