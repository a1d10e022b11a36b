"""What observes a service from inside and shows it outside: its checks, and its face."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.application import Application
from eventstore.checks import CommandsCheck, ConnectionCheck, StreamsCheck
from eventstore.cli.connecting import log_end
from eventstore.commands.worker import worker_consumer
from eventstore.config import Settings
from eventstore.errors import ConfigurationError
from eventstore.health import Health
from eventstore.metrics import Metrics
from eventstore.service import ServiceFace
from eventstore.streams import topology
from eventstore.telemetry import NO_TELEMETRY, Telemetry, combined
from projections.database import Database
from projections.health import DatabaseCheck, ProjectionsCheck
from projections.worker import ProjectionWorker

__all__ = ["make_telemetry", "service_face", "service_health"]


def make_telemetry(metrics: Metrics | None, *, tracing: bool) -> Telemetry:
    """What the parts of a service tell: numbers to `metrics`, and spans to OpenTelemetry.

    Raises `ConfigurationError` where tracing is wanted, but its extra is not installed.
    """
    if not tracing:
        return metrics or NO_TELEMETRY
    try:
        from eventstore.tracing import Tracing
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
    keep: float = 0.25,
    telemetry: Telemetry = NO_TELEMETRY,
) -> Health:
    """The health of a service, with every check there is; `keep` is `Health`'s."""
    client, codec = app.client, app.domain.codec
    streams = topology(codec.subjects, settings.streams)
    return Health(
        settings.nats.service.name,
        settings.nats.service.version,
        {
            "connection": ConnectionCheck(client),
            "streams": StreamsCheck(client, streams, telemetry=telemetry),
            "commands": CommandsCheck(client, worker_consumer(codec), telemetry=telemetry),
            "database": DatabaseCheck(database),
            "projections": ProjectionsCheck(
                projections, lambda: log_end(client, codec), telemetry=telemetry
            ),
        },
        keep=keep,
        telemetry=telemetry,
    )


def service_face(
    app: Application,
    settings: Settings,
    health: Health,
    *,
    queries: Sequence[str] = (),
    metrics: Metrics | None = None,
) -> ServiceFace:
    """The face of a service, to be run beside its other parts."""
    return ServiceFace(
        app.client,
        app.domain.codec,
        health,
        settings.nats.service,
        queries=queries,
        metrics=metrics,
    )
