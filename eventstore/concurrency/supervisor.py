"""Supervision: restarts failed work after a pause, and logs its failure once."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventstore.concurrency.backoff import Backoff, Retries, pause

T = TypeVar("T")

_STABLE_SECONDS = 60.0
"""Work that ran for this long before a failure counts as recovered in between."""


class FailureLog:
    """Logs failures of something that is retried, once for each text, and its recovery.

    An error that `is_reported` is not logged: a lost connection is, once for all who use it.
    `error` is the last failure since the recovery, or None.
    """

    def __init__(self, what: str, logger: logging.Logger, *, level: int = logging.WARNING) -> None:
        self.error: Exception | None = None
        self._logged: str | None = None
        self._what = what
        self._logger = logger
        self._level = level

    def note(self, error: Exception) -> None:
        """Report a failure that will be retried."""
        text = str(error)
        if text != self._logged and not _is_reported(error):
            self._logger.log(self._level, "%s: %s; retrying", self._what, text)
            self._logged = text
        self.error = error

    def recovered(self) -> None:
        """Report progress; cheap if there was no failure."""
        if self._logged is not None:
            self._logger.log(self._level, "%s: recovered", self._what)
        self.error = self._logged = None


class Supervisor(FailureLog):
    """Restarts work, after a pause, whenever it fails with an error that `passes` accepts.

    Other errors are raised, and so is any error `timeout` seconds or more after the first of
    consecutive failures. `interrupt` ends a pause early, so that the work can stop.
    """

    def __init__(
        self,
        what: str,
        logger: logging.Logger,
        backoff: Backoff,
        *,
        passes: Callable[[Exception], bool],
        timeout: float = math.inf,
        interrupt: asyncio.Event | None = None,
        level: int = logging.WARNING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(what, logger, level=level)
        self._backoff = backoff
        self._passes = passes
        self._timeout = timeout
        self._interrupt = asyncio.Event() if interrupt is None else interrupt
        self._clock = clock
        self._retries: Retries | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Returns what the work returns; long-running work calls `recovered` itself."""
        while True:
            began = self._clock()
            try:
                done = await work()
            except Exception as error:
                if self._clock() - began >= _STABLE_SECONDS:
                    self.error = self._logged = self._retries = None
                await self.failed(error)
            else:
                if not self._interrupt.is_set():
                    self.recovered()
                return done

    @property
    def left(self) -> float:
        """Seconds until failures are raised; the full timeout before the first one."""
        return self._timeout if self._retries is None else self._retries.left

    async def failed(self, error: Exception) -> None:
        """Wait before the next retry; raises `error` if there is none."""
        if not self._passes(error) or not self.left:
            raise error
        self.note(error)
        await self.pause()

    async def pause(self) -> None:
        """Wait as after a failure, but log none."""
        if self._retries is None:
            self._retries = Retries(self._backoff, self._timeout, clock=self._clock)
        await pause(self._retries.next_delay() or 0.0, self._interrupt)

    def recovered(self) -> None:
        """Report progress: the next failure is a first one."""
        self._retries = None
        super().recovered()


def _is_reported(error: Exception) -> bool:
    return getattr(error, "is_reported", False)
