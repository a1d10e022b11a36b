"""Supervision: work that fails is run again after a pause, and its failure is logged once."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventstore.concurrency.backoff import Backoff, Retries, pause

__all__ = ["FailureLog", "Supervisor"]

T = TypeVar("T")

_STABLE_SECONDS = 60.0
"""Work that has run for this long before it failed is taken to have recovered in between."""


class FailureLog:
    """Logs why something fails, once for each text, and that it has recovered.

    `error` is the last failure since it recovered, or None.
    """

    def __init__(self, what: str, logger: logging.Logger, *, level: int = logging.WARNING) -> None:
        self.error: Exception | None = None
        self._what = what
        self._logger = logger
        self._level = level

    def note(self, error: Exception) -> None:
        """It has failed, and will be tried again."""
        if str(error) != str(self.error):
            self._logger.log(self._level, "%s: %s; trying again", self._what, error)
        self.error = error

    def recovered(self) -> None:
        """It makes progress; cheap where it has not failed."""
        if self.error is not None:
            self._logger.warning("%s: recovered", self._what)
            self.error = None


class Supervisor(FailureLog):
    """Runs work again, after a pause, each time it fails with what `passes` accepts.

    Another error, and one that comes `timeout` seconds after the first failure in a row or later,
    is raised. `interrupt` ends a pause early, so that the work can end when it is to stop.
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
        """What the work returns in the end; long-running work calls `recovered` by itself."""
        while True:
            began = self._clock()
            try:
                done = await work()
            except Exception as error:
                if self._clock() - began >= _STABLE_SECONDS:
                    self.error = self._retries = None
                await self.failed(error)
            else:
                if not self._interrupt.is_set():
                    self.recovered()
                return done

    @property
    def left(self) -> float:
        """Seconds until a failure is raised; those of the whole timeout before the first one."""
        return self._timeout if self._retries is None else self._retries.left

    async def failed(self, error: Exception) -> None:
        """Wait before the next try; raises `error` where there is none."""
        if not self._passes(error) or not self.left:
            raise error
        self.note(error)
        await self.pause()

    async def pause(self) -> None:
        """Wait as after a failure, without one that is logged."""
        if self._retries is None:
            self._retries = Retries(self._backoff, self._timeout, clock=self._clock)
        await pause(self._retries.next_delay() or 0.0, self._interrupt)

    def recovered(self) -> None:
        """It makes progress: the next failure is a first one."""
        self._retries = None
        super().recovered()
