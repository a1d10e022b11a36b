"""Metrics: telemetry in Prometheus' text format.

    metrics = Metrics()
    async with HttpServer(metrics, port=9464):
        ...

Each `Metrics` has a registry of its own, so that one process can run several applications.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from prometheus_client import (
    CollectorRegistry,
    Info,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from eventstore.service.series import Counter, Family, Gauge, Histogram, S
from eventstore.telemetry import (
    Attribute,
    CounterName,
    GaugeName,
    Span,
    SpanName,
    Telemetry,
    TimingName,
)

__all__ = ["Metrics"]

_NAMESPACE = "eventstore"


class _MetricSpec(NamedTuple):
    """A metric family: its help text, its labels, and a suffix of its name in Prometheus."""

    help: str
    labels: tuple[str, ...] = ()
    suffix: str = ""


_COUNTERS: dict[CounterName, _MetricSpec] = {
    "commands": _MetricSpec("Commands by type and outcome.", ("type", "outcome")),
    "conflicts": _MetricSpec("Appends refused by a conflict, decided again.", ("aggregate",)),
    "retries": _MetricSpec("Retried operations.", ("operation",)),
    "events_appended": _MetricSpec("Events recorded.", ("aggregate",)),
    "events_projected": _MetricSpec("Events applied.", ("projection",)),
    "events_published": _MetricSpec("Events published by the feed.", ("stream",)),
    "events_handled": _MetricSpec("Events handled by subscribers.", ("subscriber",)),
    "reactions": _MetricSpec(
        "Effects of events outside of the database.", ("projection", "outcome")
    ),
    "parked": _MetricSpec("Messages parked, by the code of the error.", ("code",)),
    "queries": _MetricSpec("Queries by type and outcome.", ("type", "outcome")),
    "snapshots": _MetricSpec("Snapshots loaded and written, by result.", ("aggregate", "result")),
    "log_findings": _MetricSpec("Messages of the log that readers skipped.", ("kind",)),
}
_TIMINGS: dict[TimingName, _MetricSpec] = {
    "command_wait": _MetricSpec(
        "From a command's acceptance until its processing starts.", ("type",)
    ),
    "timer_late": _MetricSpec(
        "From when a timer was due until its command was accepted.", ("type",)
    ),
}
_GAUGES: dict[GaugeName, _MetricSpec] = {
    "command_backlog": _MetricSpec("Commands without an outcome.", ("state",)),
    "command_oldest_seconds": _MetricSpec("Age of the oldest command without an outcome."),
    "timers": _MetricSpec("Timers that wait, are due, or are overdue.", ("state",)),
    "projection_lag": _MetricSpec("Events of the log not yet applied.", ("projection",), "_events"),
    "projection_lag_seconds": _MetricSpec(
        "Age of the oldest event not yet applied.", ("projection",)
    ),
    "projection_position": _MetricSpec("The log position applied last.", ("projection",)),
    "projection_rate": _MetricSpec("Events of the log processed per second.", ("projection",)),
    "projection_parked": _MetricSpec(
        "Events not applied because they are parked.", ("projection",), "_events"
    ),
    "subscriber_lag": _MetricSpec(
        "Events that a subscriber has not handled.", ("subscriber",), "_events"
    ),
    "subscriber_lag_seconds": _MetricSpec(
        "Age of the oldest event that a subscriber has not handled.", ("subscriber",)
    ),
    "subscriber_parked": _MetricSpec(
        "Events that a subscriber has parked.", ("subscriber",), "_events"
    ),
    "feed_lag": _MetricSpec("Events of the log not yet published.", (), "_events"),
    "feed_lag_seconds": _MetricSpec("Age of the oldest event not yet published."),
    "stream_messages": _MetricSpec("Messages in a stream.", ("stream",)),
    "health": _MetricSpec("0 healthy, 1 degraded, 2 unhealthy.", ("check",)),
}
_SPANS: dict[SpanName, _MetricSpec] = {
    "send": _MetricSpec(
        "Sending a command, until it is stored or, if executed, until its outcome.", ("type",)
    ),
    "command": _MetricSpec("Handling a command.", ("type",)),
    "load": _MetricSpec("Reading and folding an aggregate.", ("aggregate",)),
    "decide": _MetricSpec("Deciding.", ("aggregate",)),
    "append": _MetricSpec("Appending events, retries included.", ("aggregate",)),
    "project": _MetricSpec("Applying a page of events."),
    "ask": _MetricSpec("From sending a query to its answer.", ("type",)),
    "query": _MetricSpec("Answering a query, waiting included.", ("type",)),
}


Samples = Mapping[str, Sequence[tuple[str, dict[str, str], float]]]
"""The samples of each family: name, labels and value."""


class _ServiceRegistry(CollectorRegistry):
    """The metrics of this process, and samples of others of the service, labelled `process`."""

    def __init__(self) -> None:
        super().__init__(auto_describe=True)
        self.others: dict[str, Samples] = {}

    def collect(self) -> Iterator[Metric]:
        others = dict(self.others)
        for metric in super().collect():
            for process, families in others.items():
                for name, labels, value in families.get(metric.name, ()):
                    metric.add_sample(name, {**labels, "process": process}, value)
            yield metric


class Metrics(Telemetry):
    """Telemetry as Prometheus metrics; thread-safe.

    `service` and `version`, if given, are exported as `eventstore_service_info`. Each family has at
    most 101 series of each process.
    """

    __slots__ = ("_counters", "_gauges", "_spans", "_timings", "registry")

    content_type: Final = CONTENT_TYPE_PLAIN_0_0_4
    """Of what `render` returns."""

    def __init__(self, *, service: str = "", version: str = "") -> None:
        self.registry = _ServiceRegistry()
        self._counters = self._families(Counter, _COUNTERS)
        self._gauges = self._families(Gauge, _GAUGES)
        self._timings = self._families(Histogram, _TIMINGS, "_seconds")
        self._spans = self._families(Histogram, _SPANS, "_seconds")
        ProcessCollector(registry=self.registry)
        if service:
            info = Info("service", "Which service.", namespace=_NAMESPACE, registry=self.registry)
            info.info({"service": service, "version": version})

    def count(self, name: CounterName, value: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counters[name].of(labels).add(value)

    def observe(self, name: TimingName, seconds: float, **labels: str) -> None:
        """Add to a histogram."""
        self._timings[name].of(labels).observe(seconds)

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[name].of(labels).value = value

    def span(
        self,
        name: SpanName,
        *,
        traceparent: str | None = None,
        links: Iterable[str | None] = (),
        **attributes: Attribute,
    ) -> Span:
        """Time a block, whether it succeeds or fails."""
        return _Timer(self._spans[name].of(attributes), traceparent)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format (`content_type`)."""
        return generate_latest(self.registry)

    def samples(self) -> Samples:
        """All samples of this process, for `include` in another process of the service."""
        return {
            metric.name: [(each.name, each.labels, each.value) for each in metric.samples]
            for metric in self.registry.collect()
        }

    def include(self, process: str, samples: Samples) -> None:
        """Render these, too, labelled with the process, in place of those that it had before."""
        self.registry.others[process] = samples

    def _families(
        self, kind: Callable[[], S], specs: Mapping[Any, _MetricSpec], suffix: str = ""
    ) -> dict[str, Family[S]]:
        families = {}
        for name, (text, labels, own) in specs.items():
            family = Family(kind, f"{_NAMESPACE}_{name}{own}{suffix}", text, labels)
            self.registry.register(family)
            families[name] = family
        return families


class _Timer(Span):
    __slots__ = ("_histogram", "_started")

    def __init__(self, histogram: Histogram, traceparent: str | None) -> None:
        self.traceparent = traceparent
        self._histogram = histogram

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._histogram.observe(time.perf_counter() - self._started)
