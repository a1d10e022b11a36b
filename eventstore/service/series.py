"""Series of metrics: what a process counts and times, for prometheus_client to collect.

Its own counters and histograms take a lock several times for each value, and look for a bucket one
by one: a twentieth of what a command costs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Mapping
from operator import itemgetter
from threading import Lock
from typing import Any, Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_MAX_SERIES = 100
_OTHER = "other"
# From a cached state (tens of microseconds) to a command that waits for a new leader (seconds).
_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_BOUNDS = (*map(floatToGoString, _BUCKETS), "+Inf")

Labels = tuple[str, ...]


class Counter:
    """A number that grows."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._lock = Lock()
        self._value = 0.0

    def add(self, value: float) -> None:
        """Add to it."""
        with self._lock:
            self._value += value

    @classmethod
    def family(cls, name: str, text: str, labels: Labels) -> CounterMetricFamily:
        """A family of counters, without any."""
        return CounterMetricFamily(name, text, labels=labels)

    def add_to(self, family: CounterMetricFamily, labels: Labels) -> None:
        """Add its value to its family."""
        family.add_metric(labels, self._value)


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    @classmethod
    def family(cls, name: str, text: str, labels: Labels) -> GaugeMetricFamily:
        """A family of gauges, without any."""
        return GaugeMetricFamily(name, text, labels=labels)

    def add_to(self, family: GaugeMetricFamily, labels: Labels) -> None:
        """Add its value to its family."""
        family.add_metric(labels, self.value)


class Histogram:
    """Durations in seconds, counted by how long they were."""

    __slots__ = ("_counts", "_lock", "_sum")

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = [0] * len(_BOUNDS)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        bucket = bisect_left(_BUCKETS, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += seconds

    @classmethod
    def family(cls, name: str, text: str, labels: Labels) -> HistogramMetricFamily:
        """A family of histograms, without any."""
        return HistogramMetricFamily(name, text, labels=labels)

    def add_to(self, family: HistogramMetricFamily, labels: Labels) -> None:
        """Add how many durations were at most as long as each bound, and their sum."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        up_to = [(bound, float(sum(counts[: at + 1]))) for at, bound in enumerate(_BOUNDS)]
        family.add_metric(labels, up_to, total)


S = TypeVar("S", Counter, Gauge, Histogram)


class Family(Collector, Generic[S]):
    """A family of series, one for each set of label values, up to a limit.

    Label values may come from outside; beyond the limit they all count as "other".
    """

    def __init__(self, kind: Callable[[], S], name: str, text: str, labels: Labels) -> None:
        self._kind: Callable[[], S] = kind
        self._name = name
        self._text = text
        self._labels = labels
        self._key: Callable[[Any], Hashable] = itemgetter(*labels) if labels else _no_key
        self._by_key: dict[Hashable, S] = {}
        self._series: dict[Labels, S] = {} if labels else {(): kind()}

    def of(self, labels: Mapping[str, object]) -> S:
        """The series of these labels; labels that the family does not have are ignored."""
        try:
            return self._by_key[self._key(labels)]
        except KeyError:  # the first with these values, or without one of them
            return self._find(labels)

    def _find(self, labels: Mapping[str, object]) -> S:
        values = tuple([str(labels.get(name, "")) for name in self._labels])
        if values not in self._series and len(self._series) >= _MAX_SERIES:
            values = (_OTHER,) * len(values)
        elif labels.keys() >= {*self._labels}:
            self._by_key[self._key(labels)] = self._series.setdefault(values, self._kind())
        return self._series.setdefault(values, self._kind())

    def collect(self) -> Iterator[Metric]:
        """All series, as Prometheus knows them."""
        family = self._kind().family(self._name, self._text, self._labels)
        for labels, series in list(self._series.items()):
            series.add_to(family, labels)
        yield family


def _no_key(_labels: object) -> Hashable:
    return None
