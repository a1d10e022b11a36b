from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eventstore.errors import ConfigurationError, Rejected
from eventstore.service.metrics import Metrics, MetricsServer
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


async def test_metrics_are_served_by_http_until_the_end_of_the_block() -> None:
    metrics = Metrics()
    metrics.count("retries", operation="append")

    async with MetricsServer(metrics) as server:
        assert server.host == "127.0.0.1"
        assert server.port > 0
        content_type, body = await asyncio.to_thread(fetch, server.url)
        assert content_type == Metrics.content_type
        name = ("eventstore_retries_total", frozenset({("operation", "append")}))
        assert samples(body)[name] == 1

    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(fetch, server.url)


async def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"http://127\.0\.0\.1:{port}/metrics"):
            async with MetricsServer(Metrics(), port=port):
                pass


async def test_no_such_host_or_port_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\[fe80::zz\]"):
        async with MetricsServer(Metrics(), host="fe80::zz"):
            pass
    with pytest.raises(ConfigurationError, match="70000"):
        async with MetricsServer(Metrics(), port=70_000):
            pass


def fetch(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # our own address
        return answer.headers["Content-Type"], answer.read()


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
