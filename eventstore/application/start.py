"""The start: a cluster without a quorum, or a stream without a leader, is waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventstore.client.client import Client
from eventstore.concurrency.backoff import Backoff, Retries
from eventstore.errors import ClientError
from eventstore.messages.text import make_log_records_safe

T = TypeVar("T")

_BACKOFF = Backoff(0.05, 1.0)
_QUIET_SECONDS = 3.0
_REPORT_SECONDS = 10.0

_logger = make_log_records_safe(logging.getLogger(__name__))


async def until_led(client: Client, work: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Do what needs leaders of streams, again until there are, for so many seconds.

    A wait of more than three seconds is logged as a warning, and every ten seconds. Raises the last
    error in the end, and others at once.
    """
    retries, next_report = Retries(_BACKOFF, seconds), _QUIET_SECONDS
    while True:
        try:
            return await work()
        except ClientError as error:
            passes = error.retryable and not client.is_closed
            delay = retries.next_delay() if passes else None
            if delay is None:
                raise
            if retries.waited >= next_report:
                next_report = retries.waited + _REPORT_SECONDS
                _logger.warning(
                    "waiting for a leader of the streams, %d s more at most: %s; at least half of "
                    "the cluster's servers, and one more, have to run",
                    max(1, round(retries.left)),
                    error,
                )
        await asyncio.sleep(delay)
