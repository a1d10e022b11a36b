from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from eventstore.telemetry import NO_TELEMETRY, Attribute, Span, SpanName, Telemetry, combined

INCOMING = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OUTGOING = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


class Recorder(Telemetry):
    """Records all reports."""

    def __init__(self, outgoing: str | None = None) -> None:
        self.records: list[tuple[Any, ...]] = []
        self._outgoing = outgoing

    def count(self, name: Any, value: int = 1, **labels: str) -> None:
        self.records.append((name, value, labels))

    def observe(self, name: Any, seconds: float, **labels: str) -> None:
        self.records.append((name, seconds, labels))

    def gauge(self, name: Any, value: float, **labels: str) -> None:
        self.records.append((name, value, labels))

    def span(
        self,
        name: SpanName,
        *,
        traceparent: str | None = None,
        links: Iterable[str | None] = (),
        **attributes: Attribute,
    ) -> Span:
        self.records.append((name, *links, attributes))
        return RecordedSpan(self.records, name, self._outgoing or traceparent)


class RecordedSpan(Span):
    def __init__(self, records: list[tuple[Any, ...]], name: str, traceparent: str | None) -> None:
        super().__init__(traceparent)
        self._records = records
        self._name = name

    def set(self, **attributes: Attribute) -> None:
        self._records.append((self._name, "set", attributes))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._records.append((self._name, "ended", kind))


def tell_all(telemetry: Telemetry) -> None:
    telemetry.count("commands", 2, type="CreateFlake", outcome="success")
    telemetry.observe("command_wait", 0.5, type="CreateFlake")
    telemetry.gauge("projection_lag", 7, projection="flakes")
    with telemetry.span("load", aggregate="flake") as span:
        span.set(events=3)


def test_without_listeners_all_reports_are_dropped() -> None:
    tell_all(NO_TELEMETRY)


def test_without_listeners_no_span_is_created() -> None:
    with NO_TELEMETRY.span("load") as one, NO_TELEMETRY.span("append", aggregate="flake") as other:
        assert one is other
        assert one.traceparent is None


def test_without_tracing_a_trace_context_is_passed_on() -> None:
    with NO_TELEMETRY.span("command", traceparent=INCOMING, type="CreateFlake") as span:
        assert span.traceparent == INCOMING


def test_without_tracing_links_are_not_iterated() -> None:
    def links() -> Iterator[str]:
        raise AssertionError("iterated")
        yield

    with NO_TELEMETRY.span("project", links=links()):
        pass


def test_an_error_passes_through_a_span() -> None:
    with pytest.raises(KeyError), NO_TELEMETRY.span("decide"):
        raise KeyError("mine")


def test_several_get_the_same_reports() -> None:
    one, other = Recorder(), Recorder()

    tell_all(combined(one, other))

    assert one.records == other.records
    assert one.records == [
        ("commands", 2, {"type": "CreateFlake", "outcome": "success"}),
        ("command_wait", 0.5, {"type": "CreateFlake"}),
        ("projection_lag", 7, {"projection": "flakes"}),
        ("load", {"aggregate": "flake"}),
        ("load", "set", {"events": 3}),
        ("load", "ended", None),
    ]


def test_several_get_an_error() -> None:
    one, other = Recorder(), Recorder()

    with pytest.raises(KeyError), combined(one, other).span("decide"):
        raise KeyError("mine")

    assert one.records[-1] == other.records[-1] == ("decide", "ended", KeyError)


def test_several_may_all_iterate_the_links() -> None:
    one, other = Recorder(), Recorder()

    with combined(one, other).span("project", links=(each for each in (INCOMING, None))):
        pass

    assert one.records[0] == other.records[0] == ("project", INCOMING, None, {})


@pytest.mark.parametrize("reverse", [False, True])
def test_the_outgoing_trace_context_is_of_the_one_that_traces(reverse: bool) -> None:
    several = [Recorder(), Recorder(OUTGOING), Recorder()]
    telemetry = combined(*(several[::-1] if reverse else several))

    with telemetry.span("command", traceparent=INCOMING) as span:
        assert span.traceparent == OUTGOING
    with combined(Recorder(), Recorder()).span("command", traceparent=INCOMING) as span:
        assert span.traceparent == INCOMING


def test_a_telemetry_that_drops_reports_is_not_combined() -> None:
    one = Recorder()

    assert combined() is NO_TELEMETRY
    assert combined(NO_TELEMETRY, NO_TELEMETRY) is NO_TELEMETRY
    assert combined(NO_TELEMETRY, one) is one


def test_nothing_of_opentelemetry_is_imported_unless_wanted() -> None:
    program = (
        "import sys, eventstore, eventstore.service.endpoints, eventstore.cli.app\n"
        "import eventstore.application.observability\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0


def test_nothing_of_prometheus_is_imported_by_the_library_itself() -> None:
    program = (
        "import sys, eventstore, eventstore.cli.app, eventstore.cli.commands.health\n"
        "sys.exit(any(name.startswith('prometheus') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0
