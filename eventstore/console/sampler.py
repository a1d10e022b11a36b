"""Samples of a domain's services, taken regularly: for the overview, and for its charts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from eventstore.client.client import Client, Msg
from eventstore.client.queries import QueryClient
from eventstore.console.charts import Chart, chart
from eventstore.console.connection import Connection
from eventstore.console.replies import all_answers
from eventstore.errors import ClientError, EventStoreError
from eventstore.messages.envelope import utc_now
from eventstore.messages.subjects import Subjects
from eventstore.projections.control import ListProjections, ProjectionList
from eventstore.projections.status import ProjectionStatus
from eventstore.service.endpoints import INSTANCE_ID, report_in
from eventstore.service.health import HealthReport

SECONDS = 5.0
"""The time between two samples."""

_KEPT = 180
_COUNTERS = ("eventstore_commands_total", "eventstore_events_appended_total")

Counters = Mapping[str, Mapping[str, float]]
"""The values of counters, by instance and name."""


class Sample(Struct, frozen=True, kw_only=True):
    """What was known at a time; `at` is seconds of the monotonic clock.

    `reports` are by instance. `projections` is None if no service answers for them, `problem` why
    anything is missing.
    """

    at: float
    time: datetime
    reports: Mapping[str, HealthReport]
    projections: ProjectionList | None
    counters: Counters
    problem: EventStoreError | None = None


class Rates(Struct, frozen=True):
    """Events a second of a projection, and the seconds that are left at this rate, if known."""

    rate: float
    seconds_left: float | None


class Sampler:
    """Takes samples while it runs, and keeps those of the last 15 minutes; a component."""

    def __init__(
        self, connection: Connection, subjects: Subjects, *, seconds: float = SECONDS
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._seconds = seconds
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._stopping = asyncio.Event()
        self._sampling = asyncio.Lock()
        self.ready = asyncio.Event()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Take samples until `stop`."""
        self.ready.set()
        sampling = asyncio.create_task(self._sample_on())
        await self._stopping.wait()
        sampling.cancel()
        await asyncio.wait({sampling})

    async def _sample_on(self) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(self._seconds)

    async def newest(self) -> Sample:
        """The newest sample, if it is at most two intervals old and not empty; or a new one."""
        if self._samples:
            newest = self._samples[-1]
            if newest.reports and time.monotonic() - newest.at < 2 * self._seconds:
                return newest
        return await self.sample()

    async def sample(self) -> Sample:
        """Take a sample now; what cannot be found out is its `problem`."""
        async with self._sampling:
            try:
                made = await self._take(self._connection.client)
            except EventStoreError as error:
                made = _nothing(error)
            self._samples.append(made)
            return made

    def charts(self) -> list[Chart]:
        """The charts of the samples that are kept."""
        times = [each.at for each in self._samples]
        pairs = list(zip([None, *self._samples], self._samples, strict=False))
        drawn: list[tuple[str, str, Sequence[float | None]]] = [
            ("Commands", "a second", [_rate(_COUNTERS[0], *pair) for pair in pairs]),
            ("Events", "a second", [_rate(_COUNTERS[1], *pair) for pair in pairs]),
            ("Waiting commands", "in the queue", [queue(each) for each in self._samples]),
            ("Projections' lag", "events at most", [_lag(each) for each in self._samples]),
        ]
        return [chart(title, unit, times, values) for title, unit, values in drawn]

    def rates(self, name: str) -> Rates:
        """How fast a projection, or its rebuild, has moved in the last samples."""
        seen = [(s.at, found) for s in self._samples if (found := projection_in(s, name))][-4:]
        if len(seen) < 2:
            return Rates(0.0, None)
        (first_at, first), (last_at, last) = seen[0], seen[-1]
        moved = _position(last) - _position(first)
        rate = max(0.0, moved / max(0.001, last_at - first_at))
        left = None if last.log_end is None else max(0, last.log_end - _position(last))
        return Rates(rate, left / rate if rate and left is not None else None)

    async def _take(self, client: Client) -> Sample:
        domain = self._subjects.domain
        health, metrics, projections = await asyncio.gather(
            all_answers(client, f"health.{domain}"),
            all_answers(client, f"metrics.{domain}"),
            _projections(QueryClient(client, self._subjects)),
        )
        problem = projections if isinstance(projections, EventStoreError) else None
        return Sample(
            at=time.monotonic(),
            time=utc_now(),
            reports=dict(_reports(health, f"health.{domain}")),
            projections=projections if isinstance(projections, ProjectionList) else None,
            counters={_instance(each): _counters(each) for each in metrics},
            problem=problem,
        )


def queue(sample: Sample) -> float | None:
    """How many commands wait, as far as a service says so."""
    found = [each.checks.get("commands", {}).get("pending") for each in sample.reports.values()]
    return max((each for each in found if isinstance(each, int)), default=None)


def projection_in(sample: Sample, name: str) -> ProjectionStatus | None:
    """The status of a projection in a sample."""
    found = () if sample.projections is None else sample.projections.projections
    return next((each for each in found if each.name == name), None)


def _nothing(error: EventStoreError) -> Sample:
    return Sample(
        at=time.monotonic(),
        time=utc_now(),
        reports={},
        projections=None,
        counters={},
        problem=error,
    )


async def _projections(queries: QueryClient) -> ProjectionList | EventStoreError:
    try:
        return (await queries.ask(ListProjections(), timeout=3.0)).data
    except EventStoreError as error:
        return error


def _reports(answers: Iterable[Msg], subject: str) -> Iterator[tuple[str, HealthReport]]:
    for each in answers:
        try:
            yield _instance(each), report_in(each, subject)
        except ClientError:
            continue


def _instance(answer: Msg) -> str:
    return (answer.headers or {}).get(INSTANCE_ID, "")


def _counters(answer: Msg) -> dict[str, float]:
    """The sums of the counters that are drawn; malformed metrics have none."""
    sums = dict.fromkeys(_COUNTERS, 0.0)
    try:
        for family in text_string_to_metric_families(answer.data.decode(errors="replace")):
            for each in family.samples:
                if each.name in sums:
                    sums[each.name] += each.value
    except ValueError:
        return {}
    return sums


def _rate(name: str, before: Sample | None, now: Sample) -> float | None:
    """A counter's increase a second, of the instances that both samples have."""
    if before is None:
        return None
    increases = [
        max(0.0, counters[name] - before.counters[instance][name])
        for instance, counters in now.counters.items()
        if name in counters and name in before.counters.get(instance, {})
    ]
    return sum(increases) / max(0.001, now.at - before.at) if increases else None


def _lag(sample: Sample) -> float | None:
    found = () if sample.projections is None else sample.projections.projections
    return max((each.lag for each in found if each.lag is not None), default=None)


def _position(status: ProjectionStatus) -> int:
    return status.position if status.rebuilt_to is None else status.rebuilt_to
