"""A dashboard of Grafana: commands, their latency, read models, what is parked, and the process."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class _Panel(Struct, frozen=True):
    """A chart: its title, its unit in Grafana's words, and its queries with their legends."""

    title: str
    unit: str
    queries: dict[str, str]


def _quantile(quantile: float, family: str) -> str:
    buckets = f"sum by (le) (rate(eventstore_{family}_seconds_bucket[$__rate_interval]))"
    return f"histogram_quantile({quantile}, {buckets})"


def _rate(family: str, by: str) -> str:
    return f"sum by ({by}) (rate(eventstore_{family}_total[$__rate_interval]))"


_PANELS = (
    _Panel("Health by check", "short", {"{{check}}": "max by (check) (eventstore_health)"}),
    _Panel(
        "Waiting commands",
        "short",
        {"{{state}}": "max by (state) (eventstore_command_backlog)"},
    ),
    _Panel("Commands by outcome", "ops", {"{{outcome}}": _rate("commands", "outcome")}),
    _Panel("Age of the oldest command", "s", {"oldest": "max(eventstore_command_oldest_seconds)"}),
    _Panel(
        "Handling a command",
        "s",
        {"p50": _quantile(0.5, "command"), "p99": _quantile(0.99, "command")},
    ),
    _Panel(
        "From acceptance to handling",
        "s",
        {"p50": _quantile(0.5, "command_wait"), "p99": _quantile(0.99, "command_wait")},
    ),
    _Panel("Timers", "short", {"{{state}}": "max by (state) (eventstore_timers)"}),
    _Panel("Lateness of timers", "s", {"p99": _quantile(0.99, "timer_late")}),
    _Panel("Events appended", "ops", {"{{aggregate}}": _rate("events_appended", "aggregate")}),
    _Panel("Conflicts", "ops", {"{{aggregate}}": _rate("conflicts", "aggregate")}),
    _Panel(
        "Lag of read models",
        "s",
        {"{{projection}}": "max by (projection) (eventstore_projection_lag_seconds)"},
    ),
    _Panel("Events applied", "ops", {"{{projection}}": _rate("events_projected", "projection")}),
    _Panel(
        "Lag of subscribers",
        "s",
        {"{{subscriber}}": "max by (subscriber) (eventstore_subscriber_lag_seconds)"},
    ),
    _Panel("Lag of the feed", "s", {"oldest": "max(eventstore_feed_lag_seconds)"}),
    _Panel("Queries by outcome", "ops", {"{{outcome}}": _rate("queries", "outcome")}),
    _Panel(
        "Answering a query",
        "s",
        {"p50": _quantile(0.5, "query"), "p99": _quantile(0.99, "query")},
    ),
    _Panel("Messages parked", "ops", {"{{code}}": _rate("parked", "code")}),
    _Panel(
        "Messages in streams",
        "short",
        {"{{stream}}": "max by (stream) (eventstore_stream_messages)"},
    ),
    _Panel(
        "Memory", "bytes", {"{{instance}}": "max by (instance) (process_resident_memory_bytes)"}
    ),
    _Panel(
        "CPU",
        "percentunit",
        {"{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total[$__rate_interval]))"},
    ),
)


def dashboard(service: str) -> dict[str, Any]:
    """The dashboard's JSON model; the data source is chosen in Grafana."""
    return {
        "title": f"{service} (event store)",
        "uid": f"eventstore-{service}"[:40],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_drawn(number, panel) for number, panel in enumerate(_PANELS)],
    }


def _drawn(number: int, panel: _Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": column * _WIDTH, "y": row * _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }
