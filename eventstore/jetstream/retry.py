"""Patience: how long a question that a server cannot answer just now is asked again, and how soon.

What passes by itself is waited out: a connection that is lost, a stream without a leader. What a
server refuses is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventstore.client.client import Client
from eventstore.errors import ClientError, ConnectionLost
from eventstore.text import make_log_records_safe

__all__ = ["Retry"]

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0
_LONGEST_WAIT = 5.0

_logger = make_log_records_safe(logging.getLogger(__name__))

T = TypeVar("T")


class Retry:
    """The patience of one reader of the log: `seconds` from each first failure, or `math.inf`.

    However long it is, it ends when the client is closed.
    """

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self.restore()

    def restore(self) -> None:
        """Begin anew, after a success."""
        self._delay = _FIRST_DELAY
        self._deadline: float | None = None

    async def wait(self, error: ClientError) -> None:
        """Wait before the next try; raises `error` where there should be none."""
        if not error.retryable or self._client.is_closed:
            raise error
        now = time.monotonic()
        if self._deadline is None:
            _logger.warning("reading the log: %s; trying again", error)
            self._deadline = now + self._seconds
        left = self._deadline - now
        if left <= 0:
            raise error
        await asyncio.sleep(min(self._delay * random.uniform(0.5, 1.0), left))  # noqa: S311
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        with contextlib.suppress(ConnectionLost):
            await self._client.wait_connected(min(left, _LONGEST_WAIT))

    async def answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What is asked for, however often that takes; raises what `wait` raises."""
        while True:
            try:
                answer = await ask()
            except ClientError as error:
                await self.wait(error)
            else:
                self.restore()
                return answer
