"""Tracing: telemetry as OpenTelemetry spans, propagated over NATS by `traceparent`.

Needs the extra `otel`; no other module imports this one. Exporting spans is configured in
OpenTelemetry: with its API alone nothing is exported, and trace contexts are propagated unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventstore.errors import QueryNotFound, Rejected
from eventstore.telemetry import Attribute, Span, SpanName, Telemetry

__all__ = ["Tracing"]

_MAX_LINKS = 128  # the limit of OpenTelemetry's SDK
_KINDS: dict[SpanName, SpanKind] = {
    "send": SpanKind.PRODUCER,
    "command": SpanKind.CONSUMER,
    "project": SpanKind.CONSUMER,
    "append": SpanKind.CLIENT,
    "ask": SpanKind.CLIENT,
    "query": SpanKind.SERVER,
}
_propagator = TraceContextTextMapPropagator()


class Tracing(Telemetry):
    """Creates spans; does not record counters, timings and gauges.

    `provider` is OpenTelemetry's, by default the global one. Attributes are named
    `eventstore.{name}`. `Rejected` and `QueryNotFound` are regular answers: they do not mark a span
    as failed.
    """

    __slots__ = ("_tracer",)

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("eventstore", tracer_provider=provider)

    def span(
        self,
        name: SpanName,
        *,
        traceparent: str | None = None,
        links: Iterable[str | None] = (),
        **attributes: Attribute,
    ) -> Span:
        """A child span of `traceparent`, of the only one of `links`, or of the current span.

        Of several `links` the first 128 become links. A malformed W3C trace parent is ignored.
        """
        parent, linked = _origin(traceparent, links)
        start = partial(
            self._tracer.start_span,
            name,
            parent,
            _KINDS.get(name, SpanKind.INTERNAL),
            attributes=_named(attributes),
            links=linked,
        )
        return _TraceSpan(start, parent)


class _TraceSpan(Span):
    __slots__ = ("_parent", "_span", "_start", "_token")

    def __init__(self, start: Callable[[], trace.Span], parent: Context | None) -> None:
        super().__init__()
        self._start = start
        self._parent = parent

    def set(self, **attributes: Attribute) -> None:
        self._span.set_attributes(_named(attributes))

    def __enter__(self) -> Self:
        self._span = self._start()
        here = trace.set_span_in_context(self._span, self._parent)
        self._token = context.attach(here)
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, here)
        self.traceparent = carrier.get("traceparent")
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        context.detach(self._token)
        if isinstance(error, Rejected | QueryNotFound):
            self.set(rejected=error.code)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()


def _origin(
    traceparent: str | None, links: Iterable[str | None]
) -> tuple[Context | None, list[Link]]:
    if traceparent is not None:
        return _extracted(traceparent), []
    distinct = dict.fromkeys(each for each in links if each is not None)
    if len(distinct) == 1:
        return _extracted(*distinct), []
    contexts = (_span_context(each) for each in list(distinct)[:_MAX_LINKS])
    return None, [Link(each) for each in contexts if each.is_valid]


def _extracted(traceparent: str) -> Context:
    return _propagator.extract({"traceparent": traceparent}, context.get_current())


def _span_context(traceparent: str) -> SpanContext:
    extracted = _propagator.extract({"traceparent": traceparent}, Context())
    return trace.get_current_span(extracted).get_span_context()


def _named(attributes: Mapping[str, Any]) -> dict[str, Attribute]:
    return {f"eventstore.{name}": value for name, value in attributes.items()}
