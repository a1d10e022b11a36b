from __future__ import annotations

from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eventstore.errors import Rejected
from eventstore.service.metrics import Metrics
from eventstore.telemetry import CounterName, GaugeName, SpanName, TimingName

INCOMING = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics.render()).get((name, frozenset(labels.items())))


def test_commands_are_counted_by_type_and_outcome() -> None:
    metrics = Metrics()

    metrics.count("commands", type="CreateFlake", outcome="success")
    metrics.count("commands", 2, type="CreateFlake", outcome="rejected")
    metrics.count("commands", type="CreateFlake", outcome="success")

    name = "eventstore_commands_total"
    assert value(metrics, name, type="CreateFlake", outcome="success") == 2
    assert value(metrics, name, type="CreateFlake", outcome="rejected") == 2


def test_gauges_go_up_and_down() -> None:
    metrics = Metrics()

    metrics.gauge("projection_lag", 7, projection="flakes")
    metrics.gauge("projection_lag", 3, projection="flakes")
    metrics.gauge("command_oldest_seconds", 1.5)

    assert value(metrics, "eventstore_projection_lag_events", projection="flakes") == 3
    assert value(metrics, "eventstore_command_oldest_seconds") == 1.5


def test_timings_become_histograms_in_seconds() -> None:
    metrics = Metrics()

    metrics.observe("command_wait", 0.02, type="CreateFlake")
    metrics.observe("command_wait", 40.0, type="CreateFlake")

    name = "eventstore_command_wait_seconds"
    assert value(metrics, f"{name}_count", type="CreateFlake") == 2
    assert value(metrics, f"{name}_sum", type="CreateFlake") == pytest.approx(40.02)
    assert value(metrics, f"{name}_bucket", type="CreateFlake", le="0.01") == 0
    assert value(metrics, f"{name}_bucket", type="CreateFlake", le="0.025") == 1
    assert value(metrics, f"{name}_bucket", type="CreateFlake", le="+Inf") == 2


def test_spans_are_timed_and_propagate_their_trace_context() -> None:
    metrics = Metrics()

    with metrics.span("append", traceparent=INCOMING, aggregate="flake", events=3) as span:
        span.set(position=4)
        assert span.traceparent == INCOMING

    assert value(metrics, "eventstore_append_seconds_count", aggregate="flake") == 1


def test_a_span_that_fails_is_timed_too() -> None:
    metrics = Metrics()

    with pytest.raises(Rejected), metrics.span("decide", aggregate="flake"):
        raise Rejected("not_found", "no")

    assert value(metrics, "eventstore_decide_seconds_count", aggregate="flake") == 1


def test_every_name_of_telemetry_has_its_family() -> None:
    metrics = Metrics()
    for counter in get_args(CounterName):
        metrics.count(counter)
    for timing in get_args(TimingName):
        metrics.observe(timing, 1.0)
    for gauge in get_args(GaugeName):
        metrics.gauge(gauge, 1.0)
    for name in get_args(SpanName):
        with metrics.span(name):
            pass

    text = metrics.render().decode()

    assert all(f"\neventstore_{counter}_total{{" in text for counter in get_args(CounterName))
    assert all(f"\neventstore_{name}_seconds_count" in text for name in get_args(SpanName))
    assert all(f"\neventstore_{gauge}" in text for gauge in get_args(GaugeName))
    assert all(f"\neventstore_{timing}_seconds_sum" in text for timing in get_args(TimingName))


def test_values_from_outside_cannot_make_endless_series() -> None:
    metrics = Metrics()

    for number in range(1_000):
        metrics.count("parked", code=f"code{number}")

    series = [name for name, _ in samples(metrics.render()) if name == "eventstore_parked_total"]
    assert len(series) == 101
    assert value(metrics, "eventstore_parked_total", code="code99") == 1
    assert value(metrics, "eventstore_parked_total", code="other") == 900


def test_two_applications_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()

    one.count("conflicts", aggregate="flake")

    assert value(one, "eventstore_conflicts_total", aggregate="flake") == 1
    assert value(other, "eventstore_conflicts_total", aggregate="flake") is None


def test_the_process_and_the_service_are_described() -> None:
    metrics = Metrics(service="svc", version="1.2.3")

    assert value(metrics, "eventstore_service_info", service="svc", version="1.2.3") == 1
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 1_000_000


def test_samples_of_another_process_are_rendered_in_the_same_families_and_labelled() -> None:
    ours, theirs = Metrics(), Metrics()
    ours.count("queries", 2, type="GetFlake", outcome="found")
    theirs.count("queries", 3, type="GetFlake", outcome="found")
    ours.include("read_side", theirs.samples())
    theirs.count("queries", 1, type="GetFlake", outcome="found")
    ours.include("read_side", theirs.samples())

    name, labels = "eventstore_queries_total", {"type": "GetFlake", "outcome": "found"}
    assert value(ours, name, **labels) == 2
    assert value(ours, name, **labels, process="read_side") == 4
    assert ours.render().count(b"# TYPE eventstore_queries_total ") == 1
