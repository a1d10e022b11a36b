"""Health checks of the read side: the database is readable, the projections keep up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy.exc import DBAPIError

from eventstore.errors import DatabaseUnavailable
from eventstore.messages.text import counted
from eventstore.projections.database.backends import is_transient
from eventstore.projections.database.database import Database
from eventstore.projections.worker.progress import Progress
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.health import CheckResult, HealthStatus, worst
from eventstore.telemetry import NO_TELEMETRY, Telemetry

__all__ = ["DatabaseCheck", "ProjectionsCheck"]

_READ_SECONDS = 1.0  # less than a check may take


class DatabaseCheck:
    """The read-model database is the one that was opened, readable, with the schema of this code.

    Degraded while it temporarily cannot be written or read: events are still appended to the log,
    and the read model catches up. Unhealthy if it is damaged, which is not temporary.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self) -> CheckResult:
        """Read from it.

        Raises `DatabaseUnavailable` if its file is gone, `MigrationError`, or SQLAlchemy's errors.
        """
        facts: dict[str, Any] = {"name": self._database.name}
        trouble = self._database.trouble
        try:
            async with asyncio.timeout(_READ_SECONDS):
                facts["bytes"] = await self._database.size()
                if trouble is None:
                    try:
                        await self._database.check_schema()
                    except DatabaseUnavailable as error:  # for now, although it exists
                        trouble = error
        except TimeoutError:
            trouble = trouble or DatabaseUnavailable(
                f"read model {self._database.name}: no answer after {_READ_SECONDS:g} s"
            )
        except DBAPIError as error:
            if not is_transient(error):
                raise
            trouble = trouble or self._database.unavailable(error, error.orig)
        if trouble is None:
            return CheckResult(facts=facts)
        status: HealthStatus = "unhealthy" if trouble.is_damage else "degraded"
        return CheckResult(status=status, problem=str(trouble), facts=facts)


class ProjectionsCheck:
    """Projections run and keep up with the log.

    Unhealthy if one has failed; degraded if one is retrying after a failure, has parked events, is
    more than `max_lag` events behind, or behind at all without having moved for `max_stall`
    seconds. One that stands by for another worker is healthy: the other worker reports its lag.
    `log_end` returns the position of the last event, and `waiting_seconds` the age of the first
    event after a position.
    """

    def __init__(
        self,
        worker: ProjectionWorker,
        log_end: Callable[[], Awaitable[int]],
        *,
        waiting_seconds: Callable[[int], Awaitable[float]] | None = None,
        max_lag: int = 1000,
        max_stall: float = 30.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._worker = worker
        self._log_end = log_end
        self._waiting_seconds = waiting_seconds
        self._max_lag = max_lag
        self._max_stall = max_stall
        self._telemetry = telemetry
        self._moved: dict[str, tuple[int, float]] = {}

    async def __call__(self) -> CheckResult:
        """A fact for each projection: its status, state, position, lag in events, rate, parked."""
        end = await self._log_end()
        parked = await self._parked()
        await self._report_waiting(end)
        found = {
            name: self._status(progress, end, parked.get(name, 0))
            for name, progress in self._worker.progress.items()
        }
        problems = [
            f"{name}: {each['problem']}" for name, each in found.items() if "problem" in each
        ]
        return CheckResult(
            status=worst(*(each["status"] for each in found.values())),
            problem="; ".join(problems) or None,
            facts={"log_end": end, "projections": found},
        )

    async def _report_waiting(self, end: int) -> None:
        """Report the age of what each waits for; those at the same position are asked for once."""
        if self._waiting_seconds is None:
            return
        ages: dict[int, float] = {}
        for progress in self._worker.progress.values():
            position = min(progress.position, end)
            if position not in ages:
                ages[position] = 0 if position == end else await self._waiting_seconds(position)
            self._telemetry.gauge(
                "projection_lag_seconds", round(ages[position], 3), projection=progress.name
            )

    async def _parked(self) -> Mapping[str, int]:
        """How many events are parked; none while the database does not answer."""
        waits = (each.trouble for each in self._worker.progress.values())
        if any(isinstance(trouble, DatabaseUnavailable) for trouble in waits):
            return {}
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await self._worker.parked()
        except (DatabaseUnavailable, TimeoutError):
            return {}  # which the check of the database reports

    def _status(self, progress: Progress, end: int, parked: int) -> Mapping[str, Any]:
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
            return "degraded", f"retrying: {progress.trouble}"
        if parked:
            return "degraded", f"{counted(parked, 'event')} parked, which its rows lack"
        if progress.state == "rebuilding" and lag > self._max_lag:
            return "degraded", f"{counted(lag, 'event')} behind, until its rows are rebuilt"
        if lag > self._max_lag:
            return "degraded", f"{counted(lag, 'event')} behind"
        if stalled > self._max_stall:
            return (
                "degraded",
                f"{counted(lag, 'event')} behind, and has not moved for {stalled:.0f} s",
            )
        return "healthy", None

    def _stalled(self, progress: Progress, lag: int) -> float:
        """Seconds for which it has been behind without moving, as seen by these checks."""
        now = time.monotonic()
        position, since = self._moved.get(progress.name, (-1, now))
        if lag == 0 or position != progress.position:
            since = now
        self._moved[progress.name] = progress.position, since
        return now - since
