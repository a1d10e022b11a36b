"""Automatic rebuilds, for a worker that finds rows made by another version of a projection."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import is_transient
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import OwnedElsewhere
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.text import make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))


def auto_rebuild(
    store: EventStore,
    database: Database,
    *,
    batch: int = 5_000,
    interval: float = 10.0,
    pause: float = 1.0,
    skip_unknown: bool = False,
    telemetry: Telemetry = NO_TELEMETRY,
) -> Callable[[Projection], Awaitable[None]]:
    """What a worker awaits to have a projection rebuilt; raises as `Rebuild.run` does.

    If another process is rebuilding it, that is waited for, and checked about every `pause`
    seconds. Progress is logged every `interval` seconds. The other arguments are `Rebuild`'s.
    """

    async def rebuild(projection: Projection) -> None:
        progress_log = _ProgressLog(projection, interval)
        what = f"projection {projection.name}"
        supervisor = Supervisor(what, _logger, Backoff(pause, pause), passes=_passes)

        async def work() -> None:
            if isinstance(supervisor.error, OwnedElsewhere):
                async with database.engine.connect() as connection:
                    known = await connection.run_sync(checkpoint.read, projection.name)
                if known is not None and known.version == projection.version:
                    return
            await Rebuild(
                store,
                database,
                projection,
                batch=batch,
                skip_unknown=skip_unknown,
                on_progress=progress_log.update,
                telemetry=telemetry,
            ).run()

        await supervisor.run(work)

    return rebuild


def _passes(error: Exception) -> bool:
    return getattr(error, "retryable", False) or is_transient(error)


class _ProgressLog:
    """Logs the start, the end and, at an interval, the progress of a rebuild."""

    def __init__(self, projection: Projection, interval: float) -> None:
        self._name = f"projection {projection.name}"
        self._version = projection.version
        self._interval = interval
        self._next = 0.0

    def update(self, progress: RebuildProgress) -> None:
        """Log it, if it is time to."""
        now = time.monotonic()
        total = progress.position + progress.pending
        if progress.phase == "done":
            _logger.warning(
                "%s: rebuilt for version %d, at position %d",
                self._name,
                self._version,
                progress.position,
            )
        elif self._next == 0:
            _logger.warning(
                "%s: rebuilding %d events for version %d; queries see the old rows until then",
                self._name,
                total,
                self._version,
            )
            self._next = now + self._interval
        elif now >= self._next:
            share = 100 * progress.position // max(total, 1)
            _logger.info("%s: rebuilding, %d %% of %d events", self._name, share, total)
            self._next = now + self._interval
