"""The observability of a service: telemetry, health checks, metrics, and its own endpoints."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from eventstore.application import Application
from eventstore.cli.session import log_end
from eventstore.commands.worker import worker_consumer
from eventstore.config import Settings
from eventstore.errors import ConfigurationError
from eventstore.jetstream.topology import topology
from eventstore.projections.database.database import Database
from eventstore.projections.health import DatabaseCheck, ProjectionsCheck
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.checks import CommandsCheck, ConnectionCheck, StreamsCheck
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Check, Health
from eventstore.service.metrics import Metrics, MetricsServer
from eventstore.telemetry import NO_TELEMETRY, Telemetry, combined
from eventstore.text import make_log_records_safe

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
    app: Application,
    settings: Settings,
    database: Database,
    projections: ProjectionWorker,
    *,
    others: Mapping[str, Check] = {},
    cache_ttl: float = 0.25,
    telemetry: Telemetry = NO_TELEMETRY,
) -> Health:
    """The health of a service, with the `others` after its own; `cache_ttl` is `Health`'s."""
    client, codec, bounds = app.client, app.domain.codec, settings.operations
    streams = topology(codec.subjects, settings.streams)
    return Health(
        settings.nats.service.name,
        settings.nats.service.version,
        {
            "connection": ConnectionCheck(client),
            "streams": StreamsCheck(
                client,
                streams,
                findings={codec.subjects.log_stream: app.store.findings},
                telemetry=telemetry,
            ),
            "commands": CommandsCheck(
                client,
                worker_consumer(codec),
                max_pending=bounds.max_pending_commands,
                max_age=bounds.max_command_age_ms / 1000,
                telemetry=telemetry,
            ),
            "database": DatabaseCheck(database),
            "projections": ProjectionsCheck(
                projections,
                lambda: log_end(client, codec),
                max_lag=bounds.max_projection_lag,
                max_stall=bounds.max_projection_stall_ms / 1000,
                telemetry=telemetry,
            ),
            **others,
        },
        cache_ttl=cache_ttl,
        telemetry=telemetry,
    )


def service_endpoints(
    app: Application,
    settings: Settings,
    health: Health,
    *,
    queries: Sequence[str] = (),
    metrics: Metrics | None = None,
) -> ServiceEndpoints:
    """The service endpoints, such as health and info, to be run beside its other parts."""
    return ServiceEndpoints(
        app.client,
        app.domain.codec,
        health,
        settings.nats.service,
        queries=queries,
        metrics=metrics,
        announce_interval=settings.operations.announce_interval_ms / 1000,
        sample_interval=settings.operations.sample_interval_ms / 1000,
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
