"""Checks of the read side: the database is there and readable, the projections keep up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from eventstore.health import Finding, HealthStatus, worst
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from projections.database import Database
from projections.worker import Progress, ProjectionWorker

__all__ = ["DatabaseCheck", "ProjectionsCheck"]


class DatabaseCheck:
    """The read-model database is the one it was, readable, with the schema this code needs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self) -> Finding:
        """Read from it; raises `DatabaseUnavailable`, `MigrationError`, or SQLAlchemy's errors."""
        size = await self._database.size()
        await self._database.check_schema()
        return Finding(facts={"name": self._database.name, "bytes": size})


class ProjectionsCheck:
    """Projections run and keep up with the log.

    Unhealthy where one has failed; degraded where one tries to get over a failure, has parked
    events, is more than `max_lag` events behind, or behind at all without having moved for
    `max_stall` seconds. One that stands by for another worker is healthy: it is for that worker
    to say how far it is. `log_end` tells the position of the last event.
    """

    def __init__(
        self,
        worker: ProjectionWorker,
        log_end: Callable[[], Awaitable[int]],
        *,
        max_lag: int = 1000,
        max_stall: float = 30.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._worker = worker
        self._log_end = log_end
        self._max_lag = max_lag
        self._max_stall = max_stall
        self._telemetry = telemetry
        self._moved: dict[str, tuple[int, float]] = {}

    async def __call__(self) -> Finding:
        """A fact for each projection: its status, state, position, lag in events, rate, parked."""
        end = await self._log_end()
        parked = await self._worker.parked()
        found = {
            name: self._look_at(progress, end, parked.get(name, 0))
            for name, progress in self._worker.progress.items()
        }
        problems = [
            f"{name}: {each['problem']}" for name, each in found.items() if "problem" in each
        ]
        return Finding(
            status=worst(*(each["status"] for each in found.values())),
            problem="; ".join(problems) or None,
            facts={"log_end": end, "projections": found},
        )

    def _look_at(self, progress: Progress, end: int, parked: int) -> Mapping[str, Any]:
        lag = max(0, end - progress.position)
        rate = round(progress.rate, 1)
        self._telemetry.gauge("projection_lag", lag, projection=progress.name)
        self._telemetry.gauge("projection_position", progress.position, projection=progress.name)
        self._telemetry.gauge("projection_rate", rate, projection=progress.name)
        self._telemetry.gauge("projection_parked", parked, projection=progress.name)
        status, problem = self._judge(progress, lag, parked)
        return {
            "status": status,
            **({} if problem is None else {"problem": problem}),
            "state": progress.state,
            "position": progress.position,
            "lag": lag,
            "rate": rate,
            "parked": parked,
        }

    def _judge(self, progress: Progress, lag: int, parked: int) -> tuple[HealthStatus, str | None]:
        stalled = self._stalled(progress, lag)
        if progress.error is not None:
            return "unhealthy", str(progress.error)
        if progress.state == "standby":
            return "healthy", None
        if progress.trouble is not None:
            return "degraded", f"trying again: {progress.trouble}"
        if parked:
            return "degraded", f"{parked:,} events parked, which its rows lack"
        if progress.state == "rebuilding" and lag > self._max_lag:
            return "degraded", f"{lag:,} events behind, until its rows are rebuilt"
        if lag > self._max_lag:
            return "degraded", f"{lag:,} events behind"
        if stalled > self._max_stall:
            return "degraded", f"{lag:,} events behind, and has not moved for {stalled:.0f} s"
        return "healthy", None

    def _stalled(self, progress: Progress, lag: int) -> float:
        """Seconds for which it has been behind without moving, as far as checks have seen."""
        now = time.monotonic()
        position, since = self._moved.get(progress.name, (-1, now))
        if lag == 0 or position != progress.position:
            since = now
        self._moved[progress.name] = progress.position, since
        return now - since
