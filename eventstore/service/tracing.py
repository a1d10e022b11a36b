"""Tracing: what telemetry tells, as OpenTelemetry spans, carried over NATS by `traceparent`.

Needs the extra `otel`; nothing else imports this module. Where the spans go is OpenTelemetry's own
matter: with its API alone they go nowhere, and trace contexts are handed on unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventstore.errors import QueryNotFound, Rejected
from eventstore.telemetry import Attribute, Span, SpanName, Telemetry

__all__ = ["Tracing"]

_MOST_LINKS = 128  # what OpenTelemetry's SDK keeps of a span's links
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
    """Makes spans; counters, timings and gauges are left to others.

    `provider` is OpenTelemetry's, the process' global one where none is given. Attributes are
    named `eventstore.{name}`. A rejection is an answer, and so is that there is no such
    thing; neither makes a span a failed one.
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
        """A span below `traceparent`, or below the only one of `links`, or the current span.

        Of several `links` the first 128 are kept as such. What is no W3C trace parent counts as
        not given.
        """
        parent, linked = _origin(traceparent, links)
        return _Traced(self._tracer, name, parent, linked, _named(attributes))


class _Traced(Span):
    __slots__ = ("_attributes", "_links", "_name", "_parent", "_span", "_token", "_tracer")

    def __init__(
        self,
        tracer: trace.Tracer,
        name: SpanName,
        parent: Context | None,
        links: list[Link],
        attributes: dict[str, Attribute],
    ) -> None:
        super().__init__()
        self._tracer = tracer
        self._name = name
        self._parent = parent
        self._links = links
        self._attributes = attributes

    def set(self, **attributes: Attribute) -> None:
        self._span.set_attributes(_named(attributes))

    def __enter__(self) -> Self:
        self._span = self._tracer.start_span(
            self._name,
            self._parent,
            _KINDS.get(self._name, SpanKind.INTERNAL),
            attributes=self._attributes,
            links=self._links,
        )
        here = trace.set_span_in_context(self._span, self._parent)
        self._token = context.attach(here)
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, here)
        self.traceparent = carrier.get("traceparent")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
    contexts = (_span_context(each) for each in list(distinct)[:_MOST_LINKS])
    return None, [Link(each) for each in contexts if each.is_valid]


def _extracted(traceparent: str) -> Context:
    return _propagator.extract({"traceparent": traceparent}, context.get_current())


def _span_context(traceparent: str) -> SpanContext:
    extracted = _propagator.extract({"traceparent": traceparent}, Context())
    return trace.get_current_span(extracted).get_span_context()


def _named(attributes: Mapping[str, Any]) -> dict[str, Attribute]:
    return {f"eventstore.{name}": value for name, value in attributes.items()}
