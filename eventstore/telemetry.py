"""Telemetry: counters, timings, gauges and spans; by default they are dropped.

Components get a `Telemetry` in their constructor and report to it. Whether that becomes metrics for
Prometheus (`eventstore.service.metrics`), spans for OpenTelemetry (`eventstore.service.tracing`),
both or nothing, is decided where the components are put together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

__all__ = [
    "NO_TELEMETRY",
    "CounterName",
    "GaugeName",
    "Span",
    "SpanName",
    "Telemetry",
    "TimingName",
    "combined",
]

CounterName = Literal[
    "commands",
    "conflicts",
    "retries",
    "events_appended",
    "events_projected",
    "events_published",
    "events_handled",
    "reactions",
    "parked",
    "queries",
    "snapshots",
    "log_findings",
]
"""Counters and their labels.

- commands: `type`, `outcome` (success, rejected, error)
- conflicts: `aggregate`
- retries: `operation` (append, command, project, database, subscriber)
- events_appended: `aggregate`
- events_projected: `projection`
- events_published: `stream`; by the feed
- events_handled: `subscriber`
- reactions: `projection`, `outcome` (done, failed, dropped)
- parked: `code` (of the error)
- queries: `type`, `outcome` (success, or the code of the error)
- snapshots: `aggregate`, `result` (of loads: used, missing, ignored, unavailable; of writes:
  written, outdated, dropped)
- log_findings: `kind` (foreign, unreadable); messages of the log that readers passed over, each
  counted once in a process
"""

TimingName = Literal["command_wait", "timer_late"]
"""Timings besides spans.

- command_wait: `type`; from acceptance to the start of handling
- timer_late: `type`; from when a timer was due until its command was accepted
"""

GaugeName = Literal[
    "command_backlog",
    "command_oldest_seconds",
    "timers",
    "projection_lag",
    "projection_lag_seconds",
    "projection_position",
    "projection_rate",
    "projection_parked",
    "subscriber_lag",
    "subscriber_lag_seconds",
    "subscriber_parked",
    "feed_lag",
    "feed_lag_seconds",
    "stream_messages",
    "health",
]
"""Gauges and their labels.

- command_backlog: `state` (pending, unacknowledged)
- command_oldest_seconds: no label
- timers: `state` (waiting; due, whose commands have no outcome yet; overdue)
- projection_lag_seconds, subscriber_lag_seconds: the same; how old the first event that waits is
- feed_lag_seconds: no label
- projection_lag, projection_position, projection_parked: `projection`; events
- projection_rate: `projection`; events a second
- subscriber_lag, subscriber_parked: `subscriber`; events
- feed_lag: no label; events of the log that are not published yet
- stream_messages: `stream`
- health: `check`; 0 healthy, 1 degraded, 2 unhealthy
"""

SpanName = Literal["send", "command", "load", "decide", "append", "project", "ask", "query"]
"""Spans and their attributes: send and command (`type`), load, decide and append (`aggregate`),
project, ask and query (`type`)."""

Attribute = str | int | float | bool


class Span:
    """A span; a context manager around an operation, in one task.

    Inside, `traceparent` is the W3C trace context for the messages that it causes, None if there is
    none. It must not be open across the `yield` of an asynchronous generator, whose caller may
    continue in another context.
    """

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None = None) -> None:
        self.traceparent = traceparent

    def set(self, **attributes: Attribute) -> None:
        """Add attributes that were not known at the start."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        pass


_NO_SPAN = Span()


class Telemetry:
    """The interface for reports; this one drops all of them, and others derive from it.

    No method raises, and none waits. The names and their labels are documented at `CounterName`,
    `TimingName`, `GaugeName` and `SpanName`.
    """

    __slots__ = ()

    def count(self, name: CounterName, value: int = 1, **labels: str) -> None:
        """Increment a counter by `value`."""

    def observe(self, name: TimingName, seconds: float, **labels: str) -> None:
        """Record a duration."""

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Set a gauge."""

    def span(
        self,
        name: SpanName,
        *,
        traceparent: str | None = None,
        links: Iterable[str | None] = (),
        **attributes: Attribute,
    ) -> Span:
        """A span for `with telemetry.span("load", aggregate="flake"):`.

        `traceparent` is the trace context of the message that caused it; without one, it is a child
        of the current span. `links` are the trace contexts of several causes; they are iterated
        only if spans are recorded, so a generator costs nothing otherwise. Without tracing, a given
        `traceparent` is passed on unchanged.
        """
        return _NO_SPAN if traceparent is None else Span(traceparent)


NO_TELEMETRY = Telemetry()
"""Drops all reports."""


def combined(*several: Telemetry) -> Telemetry:
    """A telemetry that reports to all of `several`, in their order."""
    active = [each for each in several if type(each) is not Telemetry]
    if not active:
        return NO_TELEMETRY
    return active[0] if len(active) == 1 else _CombinedTelemetry(active)


class _CombinedTelemetry(Telemetry):
    __slots__ = ("_several",)

    def __init__(self, several: Iterable[Telemetry]) -> None:
        self._several = tuple(several)

    def count(self, name: CounterName, value: int = 1, **labels: str) -> None:
        for each in self._several:
            each.count(name, value, **labels)

    def observe(self, name: TimingName, seconds: float, **labels: str) -> None:
        for each in self._several:
            each.observe(name, seconds, **labels)

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        for each in self._several:
            each.gauge(name, value, **labels)

    def span(
        self,
        name: SpanName,
        *,
        traceparent: str | None = None,
        links: Iterable[str | None] = (),
        **attributes: Attribute,
    ) -> Span:
        links = tuple(links)  # each may iterate it
        return _CombinedSpan(
            traceparent,
            [
                each.span(name, traceparent=traceparent, links=links, **attributes)
                for each in self._several
            ],
        )


class _CombinedSpan(Span):
    __slots__ = ("_spans",)

    def __init__(self, traceparent: str | None, spans: list[Span]) -> None:
        super().__init__(traceparent)
        self._spans = spans

    def set(self, **attributes: Attribute) -> None:
        for span in self._spans:
            span.set(**attributes)

    def __enter__(self) -> Self:
        incoming = self.traceparent
        for span in self._spans:
            outgoing = span.__enter__().traceparent
            if outgoing != incoming and outgoing is not None:
                self.traceparent = outgoing  # from the one that traces; others pass it on
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        for span in reversed(self._spans):
            span.__exit__(kind, error, trace)
