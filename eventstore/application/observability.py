"""The observability of a service: telemetry, health checks, metrics, and its own endpoints."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache, partial
from importlib import import_module
from types import ModuleType

from eventstore.application.service import RunningApplication
from eventstore.application.supervision import PartsCheck, SupervisedPart
from eventstore.commands.consumer import worker_consumer
from eventstore.config import ServiceIdentity
from eventstore.contracts import describe, query_metadata
from eventstore.errors import ConfigurationError
from eventstore.jetstream.api import log_end
from eventstore.jetstream.topology import topology
from eventstore.jetstream.waiting import waiting_seconds
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.feed.subscribers_check import SubscribersCheck
from eventstore.projections.health import DatabaseCheck, ProjectionsCheck
from eventstore.service.checks import (
    CommandsCheck,
    ConnectionCheck,
    StreamsCheck,
    check_findings,
)
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import (
    Check,
    CheckResult,
    Health,
    no_other_checks,
)
from eventstore.service.http_server import HttpServer
from eventstore.service.metrics import Metrics
from eventstore.service.micro import EndpointStats
from eventstore.service.storage_check import StorageCheck
from eventstore.service.timers_check import TimersCheck
from eventstore.subscribers import EventSubscriber
from eventstore.telemetry import NO_TELEMETRY, Telemetry, combined

_logger = make_log_records_safe(logging.getLogger(__name__))


def make_telemetry(metrics: Metrics | None, *, tracing: bool) -> Telemetry:
    """The telemetry of a service: numbers go to `metrics`, and spans to OpenTelemetry.

    Raises `ConfigurationError` if tracing is wanted, but its extra is not installed.
    """
    if not tracing:
        return metrics or NO_TELEMETRY
    return combined(metrics or NO_TELEMETRY, _tracing().Tracing())


def export_traces(identity: ServiceIdentity) -> None:
    """Have the spans of this process leave it; raises `ConfigurationError` without the extra."""
    _tracing().export_spans(identity.name, identity.version)


def _tracing() -> ModuleType:
    try:
        return import_module("eventstore.service.tracing")
    except ImportError as error:
        raise ConfigurationError(
            "tracing needs OpenTelemetry: pip install 'jetstream-eventstore[otel]'"
        ) from error


def service_health(
    service: RunningApplication,
    *,
    feed: Check | None = None,
    subscribers: Sequence[EventSubscriber] = (),
    supervised: Sequence[SupervisedPart] = (),
    is_second: bool = False,
    cache_ttl: float = 0.25,
) -> Health:
    """The health of a service, with a check for each of its parts; `cache_ttl` is `Health`'s.

    The checks of a second process are among them. In that, which `is_second`, streams and commands
    are left to the first one.
    """
    client, codec, telemetry = service.client, service.domain.codec, service.telemetry
    bounds = service.settings.operations
    checks = _checks_of_second(service) if is_second else _checks_of_first(service)
    if service.database is not None:
        checks["database"] = DatabaseCheck(service.database)
    if service.projections is not None:
        checks["projections"] = ProjectionsCheck(
            service.projections,
            lambda: log_end(client, codec.subjects),
            waiting_seconds=partial(waiting_seconds, client, codec.subjects.log_stream, ">"),
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
    if supervised:
        checks["read_side_parts" if is_second else "parts"] = PartsCheck(supervised)
    own = service.identity
    return Health(
        *(own.name, own.version, checks),
        others=no_other_checks if service.read_process is None else service.read_process.checks,
        cache_ttl=cache_ttl,
        telemetry=NO_TELEMETRY if is_second else telemetry,
    )


def _checks_of_first(service: RunningApplication) -> dict[str, Check]:
    client, codec, telemetry = service.client, service.domain.codec, service.telemetry
    bounds = service.settings.operations
    specs = topology(codec.subjects, service.settings.streams, service.domain)
    return {
        "connection": ConnectionCheck(client),
        "storage": StorageCheck(client, codec.subjects, service.identity.name, specs),
        "streams": StreamsCheck(
            client,
            specs,
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
        "timers": TimersCheck(
            client,
            codec.subjects,
            max_late=bounds.max_timer_lateness_ms / 1000,
            telemetry=telemetry,
        ),
    }


def _checks_of_second(service: RunningApplication) -> dict[str, Check]:
    """Named apart from those of the first process."""

    async def check_log() -> CheckResult:
        return check_findings(service.store.findings)

    return {"read_side_connection": ConnectionCheck(service.client), "read_side_log": check_log}


def service_endpoints(
    service: RunningApplication,
    health: Health,
    *,
    queries: Callable[[], Iterable[EndpointStats]] = tuple,
    metrics: Metrics | None = None,
) -> ServiceEndpoints:
    """The service endpoints, such as health and info, to be run beside its other parts."""
    app = service.app
    operations = service.settings.operations
    return ServiceEndpoints(
        service.client,
        service.domain.codec,
        health,
        service.identity,
        queries=queries,
        described=cache(lambda: query_metadata(describe(app.domain, app.query_types))),
        metrics=metrics,
        announce_interval=operations.announce_interval_ms / 1000,
        sample_interval=operations.sample_interval_ms / 1000,
    )


@asynccontextmanager
async def serve_http(metrics: Metrics, address: str) -> AsyncIterator[HttpServer | None]:
    """Serve metrics at an address (`host:port`) until the end of the block; "" disables it."""
    if not address:
        yield None
        return
    host, _, port = address.rpartition(":")
    async with HttpServer(metrics, host=host.strip("[]"), port=int(port)) as server:
        _logger.warning("metrics at %s/metrics", server.url)
        yield server


@contextmanager
def ready_over_http(http_server: HttpServer | None, health: Health) -> Iterator[None]:
    """Have `/readyz` answer with the health, until the end of the block."""
    if http_server is None:
        yield
        return
    http_server.health = health
    try:
        yield
    finally:
        http_server.health = None
