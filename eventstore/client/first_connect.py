"""The patience of a first connect: for how long it is tried again, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import logging

from eventstore.config import RetrySettings
from eventstore.errors import ConnectFailed
from eventstore.text import make_log_records_safe

__all__ = ["FirstConnect"]

_DEFAULT_SECONDS = 10.0
_QUIET_SECONDS = 3.0
_REPORT_SECONDS = 10.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class FirstConnect:
    """Bounds the tries of one first connect; begins when it is made.

    A wait of more than three seconds is logged as a warning: at once, then every ten seconds.
    """

    def __init__(self, settings: RetrySettings) -> None:
        limit = settings.first_connect_ms
        self._loop = asyncio.get_running_loop()
        self._seconds = _DEFAULT_SECONDS if limit is None else limit / 1000
        self._end = self._loop.time() + self._seconds
        self._next_report = 0.0

    @property
    def is_over(self) -> bool:
        """Whether there is no further try."""
        return self._loop.time() >= self._end

    def report(self, error: ConnectFailed) -> None:
        """Say that it is tried again, and why, unless that was said just now."""
        now = self._loop.time()
        if self._seconds > _QUIET_SECONDS and now >= self._next_report:
            self._next_report = now + _REPORT_SECONDS
            left = max(1, round(self._end - now))
            _logger.warning("waiting for a server, %d s more at most: %s", left, error)

    async def pause(self, seconds: float) -> None:
        """Wait before the next try, at most until the end."""
        await asyncio.sleep(min(seconds, max(0.0, self._end - self._loop.time())))
