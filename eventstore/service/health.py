"""Health: what is looked at, what is found, and what that makes of the service as a whole.

A check is an asynchronous callable that returns a `CheckResult` or raises; which checks there are
is said where the parts are put together. Those of NATS are in `eventstore.service.checks`, those of
the read side in `eventstore.projections.health`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from eventstore.concurrency.failures import only_own_cancellation
from eventstore.errors import EventStoreError
from eventstore.messages.envelope import format_timestamp
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.text import make_log_records_safe

__all__ = [
    "Check",
    "CheckResult",
    "Health",
    "HealthReport",
    "HealthStatus",
    "resident_bytes",
    "worst",
]

HealthStatus = Literal["healthy", "degraded", "unhealthy"]
"""Healthy; degraded: it works, but lags behind or was interrupted lately; unhealthy: something
that is needed is missing or fails."""

_STATM = Path("/proc/self/statm")
_LEVELS: dict[HealthStatus, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}

_logger = make_log_records_safe(logging.getLogger(__name__))


class CheckResult(Struct, frozen=True, kw_only=True):
    """What a check has found: `problem` says what is wrong unless it is healthy.

    `facts` are details by name, of what JSON can hold.
    """

    status: HealthStatus = "healthy"
    problem: str | None = None
    facts: Mapping[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """Status, problem where there is one, and the facts beside them."""
        problem = {} if self.problem is None else {"problem": self.problem}
        return {"status": self.status, **problem, **self.facts}


Check = Callable[[], Awaitable[CheckResult]]
"""Looks at one thing; what it raises counts as unhealthy."""


def worst(*statuses: HealthStatus) -> HealthStatus:
    """The worst of the statuses; healthy where there is none."""
    return max(statuses, key=_LEVELS.__getitem__, default="healthy")


class HealthReport(Struct, frozen=True, kw_only=True):
    """How a service is.

    `timestamp` is RFC 3339 in UTC. `details` has `uptime_seconds`, `memory_bytes`, and for each
    check its `status`, its `problem` where there is one, and its facts.
    """

    status: HealthStatus
    service: str
    version: str
    timestamp: str
    details: dict[str, Any]

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """The part of the details that checks have found."""
        return {name: each for name, each in self.details.items() if isinstance(each, dict)}

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by the name of the check."""
        return {
            name: each["problem"]
            for name, each in self.checks.items()
            if each.get("problem") is not None
        }

    def to_json(self) -> bytes:
        """As one JSON object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> HealthReport:
        """Read what `to_json` made; raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
        return _decode(data)


_decode = msgspec.json.Decoder(HealthReport).decode


class Health:
    """The health of one service: runs its checks, all at once, when asked.

    `timeout` is how many seconds a check may take. A report is given again to those who ask
    within `keep` seconds, and to those who asked meanwhile, so that no number of them makes the
    service ill.
    """

    def __init__(
        self,
        service: str,
        version: str,
        checks: Mapping[str, Check],
        *,
        timeout: float = 2.0,
        keep: float = 0.25,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._service = service
        self._version = version
        self._checks = dict(checks)
        self._timeout = timeout
        self._keep = keep
        self._telemetry = telemetry
        self._started = time.monotonic()
        self._one_at_a_time = asyncio.Lock()
        self._last: HealthReport | None = None
        self._last_at = -keep

    async def report(self) -> HealthReport:
        """How the service is now, or was `keep` seconds ago; never raises for what is wrong."""
        async with self._one_at_a_time:
            if self._last is None or time.monotonic() - self._last_at >= self._keep:
                before, self._last = self._last, await self._look()
                self._last_at = time.monotonic()
                _log_change(before, self._last)
            return self._last

    async def _look(self) -> HealthReport:
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(self._find(check)) for name, check in self._checks.items()
            }
        found = {name: task.result() for name, task in tasks.items()}
        for name, finding in found.items():
            self._telemetry.gauge("health", _LEVELS[finding.status], check=name)
        return HealthReport(
            status=worst(*(finding.status for finding in found.values())),
            service=self._service,
            version=self._version,
            timestamp=format_timestamp(datetime.now(UTC)),
            details={
                "uptime_seconds": round(time.monotonic() - self._started, 3),
                "memory_bytes": resident_bytes(),
                **{name: finding.to_dict() for name, finding in found.items()},
            },
        )

    async def _find(self, check: Check) -> CheckResult:
        try:
            with only_own_cancellation():
                async with asyncio.timeout(self._timeout):
                    return await check()
        except TimeoutError:
            return _failed(f"no answer after {self._timeout:g} s")
        except EventStoreError as error:
            return _failed(str(error))
        except Exception as error:  # a check at fault is a reason to look, not to fall silent
            return _failed(f"{type(error).__name__}: {error}")


def resident_bytes() -> int:
    """The memory this process holds; where the system does not say, the most it ever held."""
    try:
        pages = int(_STATM.read_bytes().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _failed(problem: str) -> CheckResult:
    return CheckResult(status="unhealthy", problem=problem)


def _log_change(before: HealthReport | None, now: HealthReport) -> None:
    status = "healthy" if before is None else before.status
    if now.status != status:
        level = logging.INFO if now.status == "healthy" else logging.WARNING
        problems = "; ".join(f"{name}: {problem}" for name, problem in now.problems.items())
        _logger.log(level, "%s is %s now%s", now.service, now.status, problems and f": {problems}")
