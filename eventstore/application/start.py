"""The start: connects, declares the streams, and compares the log with what was seen of it.

A cluster without a quorum, or a stream without a leader, is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from eventstore.client.client import Client, connect
from eventstore.client.master_keys import KeyWrapping
from eventstore.concurrency.backoff import Backoff, Retries
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.errors import ClientError
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.envelope import utc_now
from eventstore.messages.text import make_log_records_safe
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

if TYPE_CHECKING:  # a program that only writes loads no SQLAlchemy
    from eventstore.projections.database.checkpoint import Checkpoint
    from eventstore.recovery.guard import LogGuard

T = TypeVar("T")

_BACKOFF = Backoff(0.05, 1.0)
_QUIET_SECONDS = 3.0
_REPORT_SECONDS = 10.0

_logger = make_log_records_safe(logging.getLogger(__name__))


ReadCheckpoints = Callable[[], Awaitable[Sequence["Checkpoint"]]]
"""Reads the checkpoints of the read models."""


class OpenedLog(NamedTuple):
    """A log that fits what was seen of it; `outdated` are rows that do not, and are rebuilt."""

    client: Client
    store: EventStore
    guard: LogGuard
    outdated: Sequence[Checkpoint]


@asynccontextmanager
async def opened_log(
    domain: Domain,
    settings: Settings,
    *,
    name: str | None = None,
    checkpoints: ReadCheckpoints | None = None,
    clock: Callable[[], datetime] = utc_now,
    telemetry: Telemetry = NO_TELEMETRY,
    key_wrapping: KeyWrapping | None = None,
) -> AsyncIterator[OpenedLog]:
    """Connect, and open the log of a domain for this process, before that does anything with it.

    Raises `LogMissing` if the log is gone, `LogDiverged` if it went back, as the other streams, the
    configuration bucket and the read models know, whose checkpoints `checkpoints` reads; and
    `OtherLog` for rows of another log. Rows that do not fit are none of this if the settings have
    them rebuilt. Raises what connecting and declaring the streams raise, too.
    """
    from eventstore.recovery.evidence import check_existence, check_log
    from eventstore.recovery.guard import LogGuard

    codec = domain.codec
    async with connect(settings, name=name, key_wrapping=key_wrapping) as client:
        led = partial(until_led, client, settings.nats.retry.leader_wait_ms / 1000)
        known = [] if checkpoints is None else await checkpoints()
        await led(lambda: check_existence(client, codec.subjects, known))
        specs = topology(codec.subjects, settings.streams, domain)
        await led(lambda: declare(client, specs))
        async with EventStore(
            client,
            codec,
            clock=clock,
            guarded=True,
            cache_bytes=max(settings.operations.state_cache_mb, 1) << 20,
            telemetry=telemetry,
        ) as store:
            guard = LogGuard(client, store)
            await led(guard.begin)
            rebuilds = settings.read_model.rebuild_diverged
            outdated = await led(lambda: check_log(client, store, known, rebuilds=rebuilds))
            yield OpenedLog(client, store, guard, outdated)


async def until_led(client: Client, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
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
