from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from eventstore.errors import Conflict, QueryNotFound, Rejected
from eventstore.service.metrics import Metrics
from eventstore.service.tracing import Tracing
from eventstore.telemetry import combined
from tests.spans import operation

TRACE = "0af7651916cd43dd8448eb211c80319c"
INCOMING = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def ended(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {operation(span): span for span in exporter.get_finished_spans()}


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def test_the_parts_of_a_command_are_its_children(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with tracing.span("command", traceparent=INCOMING, type="CreateFlake") as command:
        with tracing.span("load", aggregate="flake"):
            pass
        with tracing.span("decide", aggregate="flake"):
            pass
        with tracing.span("append", traceparent=command.traceparent, aggregate="flake") as append:
            appended = append.traceparent
    with tracing.span("project", links=(each for each in (appended, None, appended))):
        pass

    spans = ended(exporter)
    assert set(spans) == {"command", "load", "decide", "append", "project"}
    assert {trace_id(span) for span in spans.values()} == {TRACE}
    assert parent_of(spans["command"]) == 0xB7AD6B7169203331
    for part in ("load", "decide", "append"):
        assert parent_of(spans[part]) == id_of(spans["command"])
    assert parent_of(spans["project"]) == id_of(spans["append"])
    assert spans["command"].kind is SpanKind.CONSUMER
    assert spans["command"].name == "process CreateFlake"
    assert spans["append"].name == "publish flake"
    assert (spans["command"].attributes or {})["eventstore.type"] == "CreateFlake"


def test_the_outgoing_context_is_the_spans_own(tracing: Tracing) -> None:
    with tracing.span("send", traceparent=INCOMING) as span:
        context = trace.get_current_span().get_span_context()
        assert span.traceparent == f"00-{TRACE}-{context.span_id:016x}-01"


def test_a_span_without_a_parent_begins_a_trace(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with tracing.span("command") as span:
        assert span.traceparent is not None
    assert ended(exporter)["command"].parent is None


def test_a_malformed_trace_parent_is_ignored(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with tracing.span("command", traceparent="00-zz-1-01"):
        pass
    with tracing.span("project", links=["00-zz-1-01", INCOMING]):
        pass
    spans = ended(exporter)
    assert spans["command"].parent is None
    assert len(spans["project"].links) == 1


def test_a_page_of_several_stories_is_linked_to_each_of_them(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    parents = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 200)]

    with tracing.span("project", links=parents, events=199):
        pass

    span = ended(exporter)["project"]
    assert span.parent is None
    assert len(span.links) == 128
    assert [link.context.span_id for link in span.links[:3]] == [1, 2, 3]


def test_attributes_can_be_set_later(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with tracing.span("command", type="CreateFlake") as span:
        span.set(outcome="success", version=3)
    assert dict(ended(exporter)["command"].attributes or {}) == {
        "messaging.system": "nats",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "eventstore.operation": "command",
        "eventstore.type": "CreateFlake",
        "eventstore.outcome": "success",
        "eventstore.version": 3,
    }


def test_an_error_makes_a_span_a_failed_one(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(Conflict), tracing.span("append"):
        raise Conflict("flake", "f1", 3, 4)

    span = ended(exporter)["append"]
    assert span.status.status_code is StatusCode.ERROR
    assert "expected at version 3" in str(span.status.description)
    assert [event.name for event in span.events] == ["exception"]


def test_a_rejection_is_an_answer_and_no_failure(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(Rejected), tracing.span("decide", aggregate="flake"):
        raise Rejected("already_exists", "it does")

    span = ended(exporter)["decide"]
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["eventstore.rejected"] == "already_exists"


def test_that_there_is_no_such_thing_is_an_answer_too(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(QueryNotFound), tracing.span("query", type="GetFlake"):
        raise QueryNotFound("there is no flake f1")

    span = ended(exporter)["query"]
    assert (span.kind, span.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)


def test_being_cancelled_is_no_failure(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(asyncio.CancelledError), tracing.span("command"):
        raise asyncio.CancelledError

    assert ended(exporter)["command"].status.status_code is StatusCode.UNSET


async def test_spans_of_concurrent_tasks_are_separate(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    met = asyncio.Barrier(2)

    async def carry_out(number: int) -> None:
        with tracing.span("command", type=str(number)):
            await met.wait()
            with tracing.span("load", aggregate=str(number)):
                await met.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(carry_out(1))
        group.create_task(carry_out(2))

    spans = exporter.get_finished_spans()
    commands = {
        (s.attributes or {})["eventstore.type"]: s for s in spans if operation(s) == "command"
    }
    for span in spans:
        if operation(span) == "load":
            number = (span.attributes or {})["eventstore.aggregate"]
            assert parent_of(span) == id_of(commands[number])


def test_with_metrics_both_are_recorded(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    metrics = Metrics()

    with combined(metrics, tracing).span("append", traceparent=INCOMING, aggregate="flake") as span:
        assert span.traceparent not in (None, INCOMING)

    assert trace_id(ended(exporter)["append"]) == TRACE
    assert b'eventstore_append_seconds_count{aggregate="flake"} 1.0' in metrics.render()


def test_without_an_sdk_trace_contexts_are_propagated() -> None:
    tracing = Tracing(trace.NoOpTracerProvider())

    with tracing.span("command", traceparent=INCOMING) as span:
        assert span.traceparent == INCOMING
        with tracing.span("append") as append:
            assert append.traceparent == INCOMING
    with tracing.span("command") as span:
        assert span.traceparent is None
