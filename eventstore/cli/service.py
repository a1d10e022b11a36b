"""The service: wires the write side and the read side. The only module that knows both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from eventstore import nix
from eventstore.application import Application, running
from eventstore.audit.aggregate_history import history_answers
from eventstore.cli.observability import (
    make_telemetry,
    serve_metrics,
    service_endpoints,
    service_health,
)
from eventstore.cli.read_models import read_models
from eventstore.cli.session import opened_server
from eventstore.client.responder import Answer, Responder
from eventstore.commands.status import status_answers
from eventstore.config import Settings
from eventstore.delegation import ConfigurationRequests, ConsumerRequests, ParkingRequests
from eventstore.nix.stale_packages import stale_packages
from eventstore.projections.audit import CommandCollector, audit_queries
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.supervisor import FeedSupervisor
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.queries.waiting import CheckpointPositions
from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.worker.progress import WaitTimeout
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.config_watcher import ConfigWatcher
from eventstore.service.metrics import Metrics
from eventstore.subscribers.subscriber import EventSubscriber
from eventstore.telemetry import Telemetry
from projections.builds import builds_of
from projections.queries import nix_queries

_MAX_PENDING_QUERIES = 4_096  # most of them wait for a position, and delay no others
_READ_MODEL_SECONDS = 15.0  # less than parts may take to stop


class Service(Struct):
    """A running service: its application, its database and the workers that maintain it."""

    app: Application
    database: Database
    projections: ProjectionWorker
    commands: CommandCollector


@asynccontextmanager
async def open_service(settings: Settings, directory: Path) -> AsyncIterator[Service]:
    """Migrate the database and run everything until the end of the block.

    If no server is named, an embedded one runs meanwhile, with its data in `directory`. The
    failure of a part, or of all projections, ends the block and is raised; a single projection
    that fails is logged, and the service continues without it and reports itself unhealthy. If
    another service keeps the read model up to date, this one is a standby for it.
    """
    own = settings.nats.service
    metrics = Metrics(service=own.name, version=own.version)
    telemetry = make_telemetry(metrics, tracing=settings.operations.tracing)
    async with (
        Database(settings.read_model.database, telemetry=telemetry) as database,
        opened_server(settings, directory) as named,
        Application(nix.domain(), named, telemetry=telemetry) as app,
        serve_metrics(metrics, settings.operations.metrics_address),
    ):
        await database.migrate()
        projections = ProjectionWorker(
            app.store,
            database,
            read_models(),
            rebuild=auto_rebuild(app.store, database, telemetry=telemetry),
            telemetry=telemetry,
        )
        commands = CommandCollector(app.client, app.domain.codec.subjects, database)
        service = Service(app, database, projections, commands)
        answers = _answers(service, named, telemetry)
        queries = Responder(app.client, answers, queue=own.name, max_pending=_MAX_PENDING_QUERIES)
        feed = FeedSupervisor(lambda: Feed(app.client, app.store))
        health = service_health(
            app,
            named,
            database,
            service.projections,
            others={"audit": service.commands, "feed": feed},
            telemetry=telemetry,
        )
        endpoints = service_endpoints(app, named, health, queries=queries.subjects, metrics=metrics)
        process = _process(service)
        delegation = _delegation(service, own.name)
        control = ConfigWatcher(
            app.client,
            app.domain.codec.subjects,
            queue_limit=named.streams.queue_limit,
            pausable=projections,
        )
        async with running(control):
            await control.ready.wait()  # before a projection runs that is to be paused
            answering = (service.projections, queries, endpoints, process, delegation)
            async with running(service.commands, feed, *answering):
                for part in (app.worker, *answering):
                    await part.ready.wait()
                yield service


def _answers(service: Service, settings: Settings, telemetry: Telemetry) -> dict[str, Answer]:
    app, database = service.app, service.database
    subjects = app.domain.codec.subjects
    answered = query_answers(
        database,
        CheckpointPositions(database, service.projections),
        [*nix_queries(), audit_queries],
        subjects,
        wait_seconds=settings.operations.query_wait_ms / 1000,
        telemetry=telemetry,
    )
    status = status_answers(app.client, subjects)
    return status | history_answers(app.client, app.domain) | answered


def _delegation(service: Service, queue: str) -> Responder:
    """The responder for users of other accounts, who may not use JetStream themselves."""
    client, subjects = service.app.client, service.app.domain.codec.subjects
    answers: dict[str, Answer] = {}
    for kind in (ConsumerRequests, ConfigurationRequests, ParkingRequests):
        answers |= kind(client, subjects).answers()
    return Responder(client, answers, queue=queue)


def _process(service: Service) -> EventSubscriber:
    """The process that marks packages stale, by the read model as of the event or later."""

    async def known(position: int, projection: str) -> None:
        """Wait for the read model; without a timeout while the database is unavailable.

        Otherwise the event would be parked after too many attempts, though it is not poison.
        """
        while True:
            try:
                await service.projections.wait(position, _READ_MODEL_SECONDS, projection=projection)
            except WaitTimeout:
                if service.database.trouble is None:
                    raise
            else:
                return

    async def builds(flake_id: str, position: int) -> Mapping[str, int]:
        for name in ("flakes", "packages"):
            await known(position, name)
        return await builds_of(service.database, flake_id, position)

    app = service.app
    return stale_packages(app.client, app.domain.codec, app.commands, builds)
