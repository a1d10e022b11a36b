"""Telemetry: counters, timings, gauges and spans; nothing at all until it is switched on.

Whoever has something to tell is handed a `Telemetry` by its constructor and tells it. What becomes
of that, numbers for Prometheus (`eventstore.service.metrics`), spans for OpenTelemetry
(`eventstore.service.tracing`), both or nothing, is decided where the parts are put together.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self

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
    "reactions",
    "parked",
    "queries",
    "snapshots",
    "log_findings",
]
"""What is counted.

- commands: `type`, `outcome` (success, rejected, error)
- conflicts: `aggregate`
- retries: `operation` (append, command, project, database)
- events_appended: `aggregate`
- events_projected: `projection`
- reactions: `projection`, `outcome` (done, failed, dropped)
- parked: `code` (of the error)
- queries: `type`, `outcome` (success, or the code of the error)
- snapshots: `aggregate`, `result` (of loads: used, missing, ignored, unavailable; of writes:
  written, outdated, dropped)
- log_findings: `kind` (foreign, unreadable); messages of the log that readers passed over, each
  counted once in a process
"""

TimingName = Literal["command_wait"]
"""What is timed besides spans: command_wait (`type`), from accepted to taken up."""

GaugeName = Literal[
    "command_backlog",
    "command_oldest_seconds",
    "projection_lag",
    "projection_position",
    "projection_rate",
    "projection_parked",
    "stream_messages",
    "health",
]
"""What goes up and down.

- command_backlog: `state` (pending, unacknowledged)
- command_oldest_seconds: no label
- projection_lag, projection_position, projection_parked: `projection`; events
- projection_rate: `projection`; events a second
- stream_messages: `stream`
- health: `check`; 0 healthy, 1 degraded, 2 unhealthy
"""

SpanName = Literal["send", "command", "load", "decide", "append", "project", "ask", "query"]
"""What takes time and may have parts: send and command (`type`), load, decide and append
(`aggregate`), project, ask and query (`type`)."""

Attribute = str | int | float | bool


class Span:
    """Something that takes time; a context manager around it, in one task.

    Inside, `traceparent` is the W3C trace context for the messages that follow from it, None
    where there is none. Not to be held open across the `yield` of an asynchronous generator,
    whose caller may go on in another context.
    """

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None = None) -> None:
        self.traceparent = traceparent

    def set(self, **attributes: Attribute) -> None:
        """Say more of it than was known at its beginning."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


_NO_SPAN = Span()


class Telemetry:
    """What can be told; this one listens to nothing, and others derive from it.

    No method raises for what it is told at run time, and none waits. The names and their labels
    are listed beside `CounterName` and its like.
    """

    __slots__ = ()

    def count(self, name: CounterName, value: int = 1, **labels: str) -> None:
        """Something happened, `value` times."""

    def observe(self, name: TimingName, seconds: float, **labels: str) -> None:
        """Something took so many seconds."""

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Something stands at `value` now."""

    def span(
        self,
        name: SpanName,
        *,
        traceparent: str | None = None,
        links: Iterable[str | None] = (),
        **attributes: Attribute,
    ) -> Span:
        """Something begins; use as `with telemetry.span("load", aggregate="flake"):`.

        `traceparent` is the trace context that came with the message it follows from; without
        one, it is part of the span around it. `links` are the trace contexts of several messages
        it follows from; it is only iterated where spans are recorded, so a generator costs
        nothing elsewhere. Without tracing, a given `traceparent` is handed on unchanged.
        """
        return _NO_SPAN if traceparent is None else Span(traceparent)


NO_TELEMETRY = Telemetry()
"""Listens to nothing."""


def combined(*several: Telemetry) -> Telemetry:
    """One that tells all of `several`, in their order."""
    listening = [each for each in several if type(each) is not Telemetry]
    if not listening:
        return NO_TELEMETRY
    return listening[0] if len(listening) == 1 else _Combined(listening)


class _Combined(Telemetry):
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
        links = tuple(links)  # each of them may want to iterate it
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
                self.traceparent = outgoing  # that of the one that traces; others hand on
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for span in reversed(self._spans):
            span.__exit__(kind, error, trace)
