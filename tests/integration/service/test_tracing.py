"""One command, traced from its sender to the read model, in spans and in metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eventstore import nix
from eventstore.application import WriteSide
from eventstore.config import Settings
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.metrics import Metrics
from eventstore.service.tracing import Tracing
from eventstore.telemetry import combined
from projections import nix_migrations, nix_projections
from tests.spans import operation

BOUND = 45.0


async def test_a_command_is_one_trace_from_its_sender_to_the_rows(
    settings: Settings, tmp_path: Path
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    metrics = Metrics()
    telemetry = combined(metrics, Tracing(provider))
    async with (
        Database(tmp_path / "read_model.sqlite", migrations=nix_migrations()) as database,
        WriteSide(nix.domain(), settings, telemetry=telemetry) as app,
    ):
        await database.migrate()
        worker = ProjectionWorker(app.store, database, nix_projections(), telemetry=telemetry)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            with trace.get_tracer("test", tracer_provider=provider).start_as_current_span("user"):
                create = nix.CreateModule(name="m", content="0")
                outcome = await app.commands.execute(create, "m", timeout=BOUND)
            await worker.wait(outcome.position, BOUND)
            again = await app.commands.execute(create, "m", timeout=BOUND)
            worker.stop()
        (event,) = [event async for event in app.store.read("module", "m")]

    spans = exporter.get_finished_spans()
    (user,) = [span for span in spans if span.name == "user"]
    assert user.context is not None
    spans_of_trace = [
        span for span in spans if span.context and span.context.trace_id == user.context.trace_id
    ]
    by_id = {span.context.span_id: operation(span) for span in spans_of_trace if span.context}
    parents = {
        operation(span): by_id[span.parent.span_id] for span in spans_of_trace if span.parent
    }
    assert parents == {
        "send": "user",
        "command": "send",
        "load": "command",
        "decide": "command",
        "append": "command",
        "project": "append",
    }
    assert event.envelope.traceparent is not None
    assert again.status == "rejected"
    text = metrics.render().decode()
    for line in (
        'eventstore_commands_total{outcome="success",type="CreateModule"} 1.0',
        'eventstore_commands_total{outcome="rejected",type="CreateModule"} 1.0',
        'eventstore_command_seconds_count{type="CreateModule"} 2.0',
        'eventstore_append_seconds_count{aggregate="module"} 1.0',
        'eventstore_load_seconds_count{aggregate="module"} 1.0',
        'eventstore_events_appended_total{aggregate="module"} 1.0',
        'eventstore_events_projected_total{projection="modules"} 1.0',
    ):
        assert line in text
