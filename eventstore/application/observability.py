"""The observability of a service: telemetry, health checks, metrics, and its own endpoints."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from eventstore.application.service import RunningApplication
from eventstore.commands.worker import worker_consumer
from eventstore.errors import ConfigurationError
from eventstore.jetstream.api import log_end
from eventstore.jetstream.topology import topology
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.feed.subscribers_check import SubscribersCheck
from eventstore.projections.health import DatabaseCheck, ProjectionsCheck
from eventstore.service.checks import CommandsCheck, ConnectionCheck, StreamsCheck
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Check, Health
from eventstore.service.metrics import Metrics, MetricsServer
from eventstore.subscribers import EventSubscriber
from eventstore.telemetry import NO_TELEMETRY, Telemetry, combined

_logger = make_log_records_safe(logging.getLogger(__name__))


def make_telemetry(metrics: Metrics | None, *, tracing: bool) -> Telemetry:
    """The telemetry of a service: numbers go to `metrics`, and spans to OpenTelemetry.

    Raises `ConfigurationError` if tracing is wanted, but its extra is not installed.
    """
    if not tracing:
        return metrics or NO_TELEMETRY
    try:
        from eventstore.service.tracing import Tracing
    except ImportError as error:
        raise ConfigurationError(
            "tracing needs OpenTelemetry: pip install 'jetstream-eventstore[otel]'"
        ) from error
    return combined(metrics or NO_TELEMETRY, Tracing())


def service_health(
    service: RunningApplication,
    *,
    feed: Check | None = None,
    subscribers: Sequence[EventSubscriber] = (),
    cache_ttl: float = 0.25,
) -> Health:
    """The health of a service, with a check for each of its parts; `cache_ttl` is `Health`'s."""
    client, codec, settings = service.client, service.domain.codec, service.settings
    bounds, telemetry = settings.operations, service.telemetry
    checks: dict[str, Check] = {
        "connection": ConnectionCheck(client),
        "streams": StreamsCheck(
            client,
            topology(codec.subjects, settings.streams, service.domain),
            findings={codec.subjects.log_stream: service.store.findings},
            telemetry=telemetry,
        ),
        "commands": CommandsCheck(
            client,
            worker_consumer(codec),
            left=service.worker.left,
            max_pending=bounds.max_pending_commands,
            max_age=bounds.max_command_age_ms / 1000,
            telemetry=telemetry,
        ),
    }
    if service.database is not None:
        checks["database"] = DatabaseCheck(service.database)
    if service.projections is not None:
        checks["projections"] = ProjectionsCheck(
            service.projections,
            lambda: log_end(client, codec.subjects),
            max_lag=bounds.max_projection_lag,
            max_stall=bounds.max_projection_stall_ms / 1000,
            telemetry=telemetry,
        )
    if service.collector is not None:
        checks["audit"] = service.collector
    if feed is not None:
        checks["feed"] = feed
    if subscribers:
        checks["subscribers"] = SubscribersCheck(
            client, codec.subjects, subscribers, telemetry=telemetry
        )
    own = service.identity
    return Health(own.name, own.version, checks, cache_ttl=cache_ttl, telemetry=telemetry)


def service_endpoints(
    service: RunningApplication,
    health: Health,
    *,
    queries: Sequence[str] = (),
    metrics: Metrics | None = None,
) -> ServiceEndpoints:
    """The service endpoints, such as health and info, to be run beside its other parts."""
    operations = service.settings.operations
    return ServiceEndpoints(
        service.client,
        service.domain.codec,
        health,
        service.identity,
        queries=queries,
        metrics=metrics,
        announce_interval=operations.announce_interval_ms / 1000,
        sample_interval=operations.sample_interval_ms / 1000,
    )


@asynccontextmanager
async def serve_metrics(metrics: Metrics, address: str) -> AsyncIterator[None]:
    """Serve metrics at an address (`host:port`) until the end of the block; "" disables it."""
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    async with MetricsServer(metrics, host=host.strip("[]"), port=int(port)) as server:
        _logger.warning("metrics at %s", server.url)
        yield
