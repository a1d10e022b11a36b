"""Spans that were recorded, by the operation they are of."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan


def operation(span: ReadableSpan) -> str:
    """Our name of the operation; the span's own, if another library made it."""
    return str((span.attributes or {}).get("eventstore.operation", span.name))
