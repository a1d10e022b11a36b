"""Back-off: exponential delays with jitter between retries, and their deadline."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

_MAX_DOUBLINGS = 60


class Backoff(NamedTuple):
    """The delays after failures: `first` seconds, doubled each time, up to `maximum`.

    `jitter` is the random share of a delay: with 0.5 it is between half the delay and all of it. Up
    to `extra` random seconds are added.
    """

    first: float
    maximum: float
    jitter: float = 0.5
    extra: float = 0.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after a number of consecutive failures, at least one."""
        delay = min(self.first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.maximum)
        least = delay * (1 - self.jitter)
        return random.uniform(least, delay) + random.uniform(0, self.extra)  # noqa: S311  # no secret


class Retries:
    """The retries of one operation, until `timeout` seconds after this object was created.

    `failures` is the number of failures so far.
    """

    def __init__(
        self,
        backoff: Backoff,
        timeout: float = math.inf,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._backoff = backoff
        self._timeout = timeout
        self._clock = clock
        self._began = clock()

    @property
    def waited(self) -> float:
        """Seconds since it was created."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 after it."""
        return max(0.0, self._timeout - self.waited)

    def next_delay(self) -> float | None:
        """Count a failure; the seconds to wait before the retry, None after the deadline."""
        left = self.left
        if not left:
            return None
        self.failures += 1
        return min(self._backoff.delay(self.failures), left)


async def pause(seconds: float, interrupt: asyncio.Event) -> bool:
    """Wait for some seconds, or until `interrupt` is set; returns whether it is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await interrupt.wait()
    return interrupt.is_set()
