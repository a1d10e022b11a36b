"""The health check of the subscribers that a process runs beside a feed, or without one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Any

from eventstore.client.client import Client
from eventstore.errors import StreamMissing, UnknownSubscriber
from eventstore.messages.subjects import Subjects
from eventstore.service.health import CheckResult, HealthStatus, worst
from eventstore.subscribers.status import Subscribers, SubscriberStatus
from eventstore.subscribers.subscriber import EventSubscriber
from eventstore.telemetry import NO_TELEMETRY, Telemetry


class SubscribersCheck:
    """Subscribers have a consumer, handle what is published, and have parked nothing.

    Unhealthy if a consumer is missing, or another name has taken over. Degraded while one has
    parked events, until they are retried or discarded; if no feed publishes what they wait for; and
    if processes of another release have changed what one subscribes to, or this process has passed
    on events of a newer one.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        subscribers: Iterable[EventSubscriber],
        *,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._status = Subscribers(client, subjects)
        self._subscribers = tuple(subscribers)
        self._telemetry = telemetry

    async def __call__(self) -> CheckResult:
        """A fact for each subscriber: its status, position, lag, parked, handled, retries."""
        async with asyncio.TaskGroup() as group:
            tasks = {each.name: group.create_task(self._check(each)) for each in self._subscribers}
        found = {name: task.result() for name, task in tasks.items()}
        problems = [
            f"{name}: {each['problem']}" for name, each in found.items() if "problem" in each
        ]
        return CheckResult(
            status=worst(*(each["status"] for each in found.values())),
            problem="; ".join(problems) or None,
            facts={"subscribers": found},
        )

    async def _check(self, subscriber: EventSubscriber) -> dict[str, Any]:
        try:
            status = await self._status.get(subscriber.name)
            parked = [await self._status.parked(name) for name in subscriber.declared.names]
        except (UnknownSubscriber, StreamMissing) as error:
            return {"status": "unhealthy", "problem": str(error)}
        count = None if None in parked else sum(filter(None, parked))
        self._telemetry.gauge("subscriber_lag", status.lag, subscriber=subscriber.name)
        self._telemetry.gauge(
            "subscriber_lag_seconds", status.lag_seconds, subscriber=subscriber.name
        )
        if count is not None:
            self._telemetry.gauge("subscriber_parked", count, subscriber=subscriber.name)
        level, problems = _problems(subscriber, status, count)
        return {
            "status": level,
            **({"problem": "; ".join(problems)} if problems else {}),
            "position": status.position,
            "lag": status.lag,
            "lag_seconds": status.lag_seconds,
            "unacknowledged": status.unacknowledged,
            "parked": count,
            "handled": subscriber.handled,
            "retries": subscriber.retries,
            "passed_on": subscriber.passed_on,
        }


def _problems(
    subscriber: EventSubscriber, status: SubscriberStatus, parked: int | None
) -> tuple[HealthStatus, list[str]]:
    if status.continued_by is not None:
        return "unhealthy", [f"{status.continued_by} has taken over its position"]
    problems = []
    if parked:
        many = "an event" if parked == 1 else f"{parked:,} events"
        problems.append(f"{many} parked, to be retried or discarded")
    if subscriber.feed.problem is not None:
        problems.append(subscriber.feed.problem)
    delivered = set(status.subjects)
    missing = sorted(subscriber.wanted - delivered)
    if missing and not any("*" in each for each in delivered):
        problems.append(f"other processes have left out {', '.join(missing)}")
    for option in ("max_concurrency", "ack_wait"):
        own, actual = (getattr(each, option) for each in (subscriber.declared, status))
        if not math.isclose(own, actual):
            problems.append(f"other processes have set {option} to {actual:g}, not {own:g}")
    return ("degraded" if problems else "healthy"), problems
