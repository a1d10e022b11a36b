"""The overview: how the services are, what waits, and how much has happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.pages.endpoint import route
from eventstore.console.problems import Problem
from eventstore.console.sampler import Sample, queue
from eventstore.errors import ClientError, NoResponders
from eventstore.service.health import HealthStatus, worst


async def _overview(request: Request, desk: Desk) -> Response:
    return desk.page(request, "overview", **await _values(desk))


async def _now(request: Request, desk: Desk) -> Response:
    return desk.page(request, "overview_now", **await _values(desk))


async def _values(desk: Desk) -> Mapping[str, Any]:
    sample = await desk.sampler.newest()
    problem = _problem(sample)
    return {
        "problem": None if problem is None else Problem.of(problem),
        "sample": sample,
        "services": sample.reports,
        "checks": dict(_checks(sample)),
        "status": _status(sample),
        "waiting": queue(sample),
        "oldest": _largest(sample, "commands", "oldest_seconds"),
        "feed_pending": _largest(sample, "feed", "pending"),
        "parked": _parked(sample, desk.domain.codec.subjects.parked_stream),
        "timers": _largest(sample, "timers", "waiting"),
        "log_end": _largest(sample, "projections", "log_end"),
        "charts_now": desk.sampler.charts(),
    }


def _problem(sample: Sample) -> ClientError | None:
    """Why there is nothing to show: no server, or no service."""
    if sample.reports:
        return None
    if isinstance(sample.problem, ClientError):
        return sample.problem
    return NoResponders("no service of this domain answers: start one with `eventstore serve`")


def _status(sample: Sample) -> HealthStatus | None:
    found = [each.status for each in sample.reports.values()]
    return worst(*found) if found else None


def _checks(sample: Sample) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The checks of all instances; those of several have the instance in their name."""
    for instance, report in sample.reports.items():
        for name, check in report.checks.items():
            own = name if len(sample.reports) == 1 else f"{name} ({instance[:6]})"
            yield own, check


def _largest(sample: Sample, check: str, fact: str) -> float | None:
    found = (each.checks.get(check, {}).get(fact) for each in sample.reports.values())
    return max((each for each in found if isinstance(each, int | float)), default=None)


def _parked(sample: Sample, stream: str) -> int | None:
    """How many messages are on the stream of what is parked."""
    for report in sample.reports.values():
        streams = report.checks.get("streams", {}).get("streams")
        state = streams.get(stream) if isinstance(streams, Mapping) else None
        if isinstance(state, Mapping) and isinstance(state.get("messages"), int):
            return int(state["messages"])
    return None


ROUTES = [route("/", _overview), route("/overview/now", _now)]
