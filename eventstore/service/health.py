"""Health: checks, their results, and the overall status of a service.

A check is an asynchronous callable that returns a `CheckResult` or raises; the application selects
them. Those of NATS are in `eventstore.service.checks`, those of the read side in
`eventstore.projections.health`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from eventstore.concurrency.failures import only_own_cancellation
from eventstore.errors import EventStoreError
from eventstore.messages.envelope import format_timestamp
from eventstore.messages.text import make_log_records_safe
from eventstore.telemetry import NO_TELEMETRY, Telemetry

HealthStatus = Literal["healthy", "degraded", "unhealthy"]
"""Degraded: it works, but lags behind or was interrupted recently; unhealthy: something that is
needed is missing or fails."""

_STATM = Path("/proc/self/statm")
_LEVELS: dict[HealthStatus, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}

_logger = make_log_records_safe(logging.getLogger(__name__))


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of a check; `problem` describes what is wrong, unless it is healthy.

    `facts` are details by name, with values that JSON can represent.
    """

    status: HealthStatus = "healthy"
    problem: str | None = None
    facts: Mapping[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """The status, the problem if there is one, and the facts in one mapping."""
        problem = {} if self.problem is None else {"problem": self.problem}
        return {"status": self.status, **problem, **self.facts}


Check = Callable[[], Awaitable[CheckResult]]
"""Checks one thing; unhealthy if it raises."""


OtherChecks = Callable[[], Coroutine[Any, Any, Mapping[str, CheckResult]]]
"""The results of the checks of another process, by name; does not raise."""


async def no_other_checks() -> Mapping[str, CheckResult]:
    """Of a service with one process."""
    return {}


def worst(*statuses: HealthStatus) -> HealthStatus:
    """The worst of the statuses; healthy if there is none."""
    return max(statuses, key=_LEVELS.__getitem__, default="healthy")


class HealthReport(Struct, frozen=True, kw_only=True):
    """The health of a service at a time.

    `timestamp` is RFC 3339 in UTC. `details` has `uptime_seconds`, `memory_bytes`, and for each
    check its `status`, its `problem` if there is one, and its facts.
    """

    status: HealthStatus
    service: str
    version: str
    timestamp: str
    details: dict[str, Any]

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """The details of each check, by its name."""
        return {name: each for name, each in self.details.items() if isinstance(each, dict)}

    @property
    def problems(self) -> dict[str, str]:
        """The problems, by the name of the check."""
        return {
            name: each["problem"]
            for name, each in self.checks.items()
            if each.get("problem") is not None
        }

    def to_json(self) -> bytes:
        """Encode as one JSON object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> HealthReport:
        """Decode a report; raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
        return _decode(data)


_decode = msgspec.json.Decoder(HealthReport).decode


class Health:
    """Runs the checks of one service concurrently, on request.

    `timeout` is how many seconds a check may take. `others` has the results of checks in another
    process of the service, whose names are to differ from those of `checks`. A report is cached for
    `cache_ttl` seconds, and concurrent requests share one, so that many requests do not overload
    the service.
    """

    def __init__(
        self,
        service: str,
        version: str,
        checks: Mapping[str, Check],
        *,
        others: OtherChecks = no_other_checks,
        timeout: float = 2.0,
        cache_ttl: float = 0.25,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._service = service
        self._version = version
        self._checks = dict(checks)
        self._others = others
        self._timeout = timeout
        self._cache_ttl = cache_ttl
        self._telemetry = telemetry
        self._started = time.monotonic()
        self._lock = asyncio.Lock()
        self._last: HealthReport | None = None
        self._last_at = -cache_ttl

    async def report(self) -> HealthReport:
        """A report, at most `cache_ttl` seconds old; problems are reported, not raised."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last_at >= self._cache_ttl:
                before, self._last = self._last, await self._run_checks()
                self._last_at = time.monotonic()
                _log_change(before, self._last)
            return self._last

    async def _run_checks(self) -> HealthReport:
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(self._run_check(check))
                for name, check in self._checks.items()
            }
            others = group.create_task(self._others())
        results = {**{name: task.result() for name, task in tasks.items()}, **others.result()}
        for name, result in results.items():
            self._telemetry.gauge("health", _LEVELS[result.status], check=name)
        return HealthReport(
            status=worst(*(result.status for result in results.values())),
            service=self._service,
            version=self._version,
            timestamp=format_timestamp(datetime.now(UTC)),
            details={
                "uptime_seconds": round(time.monotonic() - self._started, 3),
                "memory_bytes": resident_bytes(),
                **{name: result.to_dict() for name, result in results.items()},
            },
        )

    async def _run_check(self, check: Check) -> CheckResult:
        try:
            with only_own_cancellation():
                async with asyncio.timeout(self._timeout):
                    return await check()
        except TimeoutError:
            return _failed(f"no answer after {self._timeout:g} s")
        except EventStoreError as error:
            return _failed(str(error))
        except Exception as error:  # a faulty check must not prevent the report
            return _failed(f"{type(error).__name__}: {error}")


def resident_bytes() -> int:
    """The resident memory of this process; its peak if the system does not report it."""
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
        problems = "; ".join(f"{name}: {problem}" for name, problem in now.problems.items())
        _logger.warning("%s is %s now%s", now.service, now.status, problems and f": {problems}")
