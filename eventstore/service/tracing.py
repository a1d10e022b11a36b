"""Tracing: telemetry as OpenTelemetry spans, propagated over NATS by `traceparent`.

Needs the extra `otel`. Names and attributes follow OpenTelemetry's semantic conventions for
messaging. Where spans go is configured in OpenTelemetry, by its environment variables or by a
provider that the program sets: with its API alone nothing is exported, and trace contexts are
propagated unchanged.
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

__all__ = ["Tracing", "export_spans"]

_MAX_LINKS = 128  # the limit of OpenTelemetry's SDK
_KINDS: dict[SpanName, SpanKind] = {
    "send": SpanKind.PRODUCER,
    "command": SpanKind.CONSUMER,
    "project": SpanKind.CONSUMER,
    "append": SpanKind.CLIENT,
    "ask": SpanKind.CLIENT,
    "query": SpanKind.SERVER,
}
_OPERATIONS: dict[SpanName, tuple[str, str]] = {
    "send": ("send", "send"),
    "command": ("process", "process"),
    "append": ("send", "publish"),
    "project": ("process", "process"),
    "ask": ("send", "request"),
    "query": ("process", "process"),
}
"""The type and the name of each operation on messages, as the conventions call them."""

_propagator = TraceContextTextMapPropagator()


class Tracing(Telemetry):
    """Creates spans; does not record counters, timings and gauges.

    `provider` is OpenTelemetry's, by default the global one. A span's name is that of its operation
    and what it is about, such as `process Deposit`. Its attributes are those of the conventions for
    messaging, and `eventstore.{name}`. `Rejected` and `QueryNotFound` are regular answers: they do
    not mark a span as failed.
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
        kind, operation = _OPERATIONS.get(name, ("", name))
        about = attributes.get("type") or attributes.get("aggregate") or ""
        start = partial(
            self._tracer.start_span,
            f"{operation} {about}".rstrip(),
            parent,
            _KINDS.get(name, SpanKind.INTERNAL),
            attributes=_conventional(kind, operation) | _named({"operation": name, **attributes}),
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
        self._span = _continued(self._start(), self._parent)
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


def _continued(span: trace.Span, parent: Context | None) -> trace.Span:
    """The span; without an SDK, where it may have no context, one that has its parent's."""
    if span.get_span_context().is_valid:
        return span
    return trace.NonRecordingSpan(trace.get_current_span(parent).get_span_context())


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


def _conventional(kind: str, operation: str) -> dict[str, Attribute]:
    if not kind:
        return {}
    return {
        "messaging.system": "nats",
        "messaging.operation.type": kind,
        "messaging.operation.name": operation,
    }


def export_spans(service: str, version: str) -> None:
    """Export spans by OTLP, unless the program has set a provider, or has no SDK.

    Where to, and everything else, is read from OpenTelemetry's environment variables, such as
    `OTEL_EXPORTER_OTLP_ENDPOINT`; by default to a collector on this machine.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return
    named = Resource.create({"service.name": service, "service.version": version})
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def _named(attributes: Mapping[str, Any]) -> dict[str, Attribute]:
    return {f"eventstore.{name}": value for name, value in attributes.items()}
