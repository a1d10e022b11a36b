"""Automatic rebuilds, for a worker that finds rows made by another version of a projection."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import OwnedElsewhere
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import is_transient
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

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
        on_progress = _progress_log(projection, interval)
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
                on_progress=on_progress,
                telemetry=telemetry,
            ).run()

        await supervisor.run(work)

    return rebuild


def _passes(error: Exception) -> bool:
    return getattr(error, "retryable", False) or is_transient(error)


def _progress_log(projection: Projection, interval: float) -> Callable[[RebuildProgress], None]:
    """Logs the start, the end and, at an interval, the progress of a rebuild."""
    name, version = f"projection {projection.name}", projection.version
    due = 0.0

    def update(progress: RebuildProgress) -> None:
        nonlocal due
        now, position = time.monotonic(), progress.position
        total = position + progress.pending
        if progress.phase == "done":
            _logger.warning("%s: rebuilt for version %d, at position %d", name, version, position)
        elif due == 0:
            _logger.warning(
                "%s: rebuilding %d events for version %d; queries see the old rows until then",
                name,
                total,
                version,
            )
            due = now + interval
        elif now >= due:
            share = 100 * position // max(total, 1)
            _logger.info("%s: rebuilding, %d %% of %d events", name, share, total)
            due = now + interval

    return update
