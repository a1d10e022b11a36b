"""Run an application: wires the write side and the read side; no other module knows both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from eventstore.application.components import GRACE_SECONDS, ReadyComponent, running
from eventstore.application.declaration import Declaration
from eventstore.application.isolation import IsolationWatch
from eventstore.application.observability import (
    make_telemetry,
    serve_http,
    service_endpoints,
    service_health,
)
from eventstore.application.parts import Parts
from eventstore.application.process_link import ProcessLink
from eventstore.application.read_process import ReadProcess
from eventstore.application.read_side import ParentLink
from eventstore.application.server import opened_server
from eventstore.application.service import RunningApplication
from eventstore.application.supervision import SupervisedPart
from eventstore.application.write_side import WriteSide
from eventstore.audit.aggregate_history import history_answers
from eventstore.client.responder import Answer, Responder
from eventstore.commands.status import status_answers
from eventstore.config import Settings
from eventstore.delegation import (
    ConfigurationRequests,
    ConsumerRequests,
    ParkingRequests,
    ProjectionRequests,
    TimerRequests,
)
from eventstore.processes import Process, process_runner
from eventstore.projections.audit import CommandCollector, audit, audit_queries
from eventstore.projections.control import ProjectionControl
from eventstore.projections.database import checkpoint
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.supervisor import FeedSupervisor
from eventstore.projections.projection import Projection
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.recovery.evidence import read_checkpoints
from eventstore.service.config_watcher import ConfigWatcher
from eventstore.service.health import Health
from eventstore.service.http_server import HttpServer
from eventstore.service.metrics import Metrics
from eventstore.service.micro import EndpointStats, endpoint_stats
from eventstore.subscribers import EventSubscriber, Subscriber
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_END_SECONDS = 5.0
"""How long the second process may take to end when its components have."""

_MAX_PENDING_QUERIES = 4_096  # most of them wait for a position, and delay no others


def projections_of(app: Declaration) -> tuple[Projection, ...]:
    """The projections of an application, and the audit index."""
    return (*app.projections, audit)


@asynccontextmanager
async def run_application(
    app: Declaration,
    settings: Settings,
    directory: Path,
    parts: Parts,
    *,
    in_two: bool = False,
    link: ProcessLink | None = None,
) -> AsyncIterator[RunningApplication]:
    """Run some parts of an application until the end of the block; see `Application.running`.

    If `in_two`, the read side of these parts runs in a second process. That is linked to the first
    by `link`, to which it reports what it would otherwise answer itself.
    """
    identity, settings = app.identity(settings), settings.in_directory(directory)
    metrics = Metrics(service=identity.name, version=identity.version)
    telemetry = make_telemetry(metrics, tracing=settings.operations.tracing)
    read_process = ReadProcess(metrics) if in_two else None
    reads = parts.read_database  # in either process: its checkpoints are compared before all
    parts = parts.write_side if in_two else parts
    async with AsyncExitStack() as stack:
        database = None
        if parts.read_database:
            database = await stack.enter_async_context(_database(app, settings, telemetry))
        named = await stack.enter_async_context(opened_server(settings, directory))
        write_side = await stack.enter_async_context(
            WriteSide(
                app.domain,
                named,
                name=identity.name,
                worker=parts.worker,
                waits=True,
                checkpoints=checkpoints_of(app, settings, database) if reads else None,
                rebuilds=settings.read_model.rebuild_diverged,
                processes=app.processes,
                clock=app.clock,
                telemetry=telemetry,
            )
        )
        address = settings.operations.metrics_address
        http_server = await stack.enter_async_context(serve_http(metrics, address))
        projected = database if parts.projections else None
        service = RunningApplication(
            *(app, named, identity, write_side, database),
            projections=await _projections(app, write_side, projected, telemetry),
            collector=_collector(write_side, projected),
            read_process=read_process,
            http_server=http_server,
            telemetry=telemetry,
        )
        async with _components(service, parts, metrics, link):
            write_side.begin()  # when all others work: one that cannot has led to no decision
            if parts.worker:
                await service.worker.ready.wait()
            yield service


def _database(
    app: Declaration, settings: Settings, telemetry: Telemetry = NO_TELEMETRY
) -> Database:
    location = settings.read_model.database
    return Database(location, migrations=app.migrations, telemetry=telemetry)


def checkpoints_of(
    app: Declaration, settings: Settings, database: Database | None = None
) -> Callable[[], Awaitable[list[Checkpoint]]]:
    """What reads the checkpoints of the read models; without a database, opens one meanwhile.

    It brings their tables up to date first, as far as they are not the team's own.
    """

    async def read(database: Database) -> list[Checkpoint]:
        await database.migrate()
        await database.create_tables(app.own_tables())
        return await read_checkpoints(database, projections_of(app))

    async def read_alone() -> list[Checkpoint]:
        async with _database(app, settings) as opened:
            return await read(opened)

    return read_alone if database is None else partial(read, database)


@asynccontextmanager
async def _components(
    service: RunningApplication, parts: Parts, metrics: Metrics, link: ProcessLink | None
) -> AsyncIterator[None]:
    control = ConfigWatcher(
        service.client,
        service.domain.codec.subjects,
        queue_limit=service.settings.streams.queue_limit,
        pausable=service.projections,
    )
    watch = IsolationWatch(service.client, service.domain.codec.subjects.log_stream)
    async with running(control, watch):
        await control.ready.wait()  # before a projection runs that is to be paused
        async with (
            _second_process(service.read_process),
            _answering(service, parts, metrics, link),
        ):
            yield


@asynccontextmanager
async def _second_process(read_process: ReadProcess | None) -> AsyncIterator[None]:
    """Run it, if there is one, until the end of the block, which begins when it is ready."""
    if read_process is None:
        yield
        return
    async with running(read_process, grace=GRACE_SECONDS + _END_SECONDS):
        await read_process.ready.wait()
        yield


@asynccontextmanager
async def _answering(
    service: RunningApplication, parts: Parts, metrics: Metrics, link: ProcessLink | None
) -> AsyncIterator[None]:
    feed = _feed(service) if parts.feed else None
    subscribers = _subscribers(service) if parts.subscribers else []
    supervised = _supervised(service, subscribers)
    answering: list[ReadyComponent] = [*supervised]
    queries: list[EndpointStats] = []
    if parts.queries:
        answering.append(_queries(service, await service.store.identity(), queries))
    if service.projections is not None:
        answering += _projection_control(service)
    health = service_health(
        service,
        feed=feed,
        subscribers=subscribers,
        supervised=supervised,
        is_second=link is not None,
    )
    parent = None if link is None else ParentLink(link, health, metrics, queries)
    answering += [parent] if parent else _own_endpoints(service, health, queries, metrics)
    background = [each for each in (service.collector, feed) if each is not None]
    async with running(*background, *answering):
        for part in answering:
            await part.ready.wait()
        if parent is not None:
            parent.announce(service.read_model_name)
        with ready_over_http(service.http_server, health):
            yield


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


def _own_endpoints(
    service: RunningApplication, health: Health, queries: list[EndpointStats], metrics: Metrics
) -> list[ReadyComponent]:
    """What answers for the whole service, its second process included."""
    process = service.read_process
    answered = (lambda: queries) if process is None else (lambda: process.queries)
    endpoints = service_endpoints(service, health, queries=answered, metrics=metrics)
    return [_delegation(service), endpoints]


async def _projections(
    app: Declaration, write_side: WriteSide, database: Database | None, telemetry: Telemetry
) -> ProjectionWorker | None:
    if database is None:
        return None
    if outdated := [each.name for each in write_side.outdated]:
        await database.transact(partial(checkpoint.disown, names=outdated))
    return ProjectionWorker(
        write_side.store,
        database,
        projections_of(app),
        rebuild=auto_rebuild(write_side.store, database, telemetry=telemetry),
        rebuilds_other_logs=bool(outdated),
        until_failed=False,
        telemetry=telemetry,
    )


def _collector(write_side: WriteSide, database: Database | None) -> CommandCollector | None:
    """What collects commands and their outcomes for the audit index."""
    if database is None:
        return None
    return CommandCollector(write_side.client, write_side.domain.codec.subjects, database)


def _supervised(
    service: RunningApplication, subscribers: Iterable[EventSubscriber]
) -> list[SupervisedPart]:
    """The parts whose failures end nothing else, nor the service."""
    parts = {f"subscriber {each.name}": each for each in subscribers}
    projections = {} if service.projections is None else {"projections": service.projections}
    named: dict[str, ReadyComponent] = {**parts, **projections}
    return [SupervisedPart(name, part, service.client) for name, part in named.items()]


def _queries(service: RunningApplication, log: str, endpoints: list[EndpointStats]) -> Responder:
    """The responder for every query of the domain, on rows of this log; counted by `endpoints`."""
    subjects = service.domain.codec.subjects
    answered = query_answers(
        service.read_model,
        service.positions,
        [*service.app.queries, audit_queries],
        subjects,
        wait_seconds=service.settings.operations.query_wait_ms / 1000,
        log=log,
        telemetry=service.telemetry,
    )
    status = status_answers(service.client, subjects)
    answers = status | history_answers(service.client, service.domain) | answered
    name = service.identity.name
    endpoints += [endpoint_stats(subject, name) for subject in answers]
    counted = {each.subject: each.counting(answers[each.subject]) for each in endpoints}
    return Responder(service.client, counted, queue=name, max_pending=_MAX_PENDING_QUERIES)


def _projection_control(service: RunningApplication) -> list[ReadyComponent]:
    """What shows the projections of this process to others, and takes their requests."""
    control = ProjectionControl(
        service.client,
        service.store,
        service.read_model,
        projections_of(service.app),
        telemetry=service.telemetry,
    )
    requests = ProjectionRequests(control, service.domain.codec.subjects)
    answers = control.answers() | requests.answers()
    return [control, Responder(service.client, answers, queue=service.identity.name)]


def _feed(service: RunningApplication) -> FeedSupervisor:
    options = {"cloudevents": service.settings.operations.cloudevents}
    telemetry = service.telemetry
    return FeedSupervisor(
        lambda: Feed(service.client, service.store, **options, telemetry=telemetry)
    )


def _subscribers(service: RunningApplication) -> list[EventSubscriber]:
    """The subscribers, with what their handlers may need, and the processes."""
    resources = {
        "service": service,
        "client": service.client,
        "store": service.store,
        "commands": service.commands,
        "queries": service.queries,
    }
    subscribers = [
        EventSubscriber(
            *(service.client, service.domain.codec, each),
            resources=resources,
            telemetry=service.telemetry,
        )
        if isinstance(each, Subscriber)
        else each(service)
        for each in service.app.subscribers
    ]
    return [*subscribers, *(_process(service, each) for each in service.app.processes)]


def _process(service: RunningApplication, process: Process[Any]) -> EventSubscriber:
    return process_runner(
        *(process, service.client, service.store, service.commands),
        states=service.states,
        snapshots=service.snapshots,
        clock=service.app.clock,
        telemetry=service.telemetry,
    )


def _delegation(service: RunningApplication) -> Responder:
    """The responder for users of other accounts, who may not use JetStream themselves."""
    answers: dict[str, Answer] = {}
    for kind in (ConsumerRequests, ConfigurationRequests, ParkingRequests, TimerRequests):
        answers |= kind(service.client, service.domain.codec.subjects).answers()
    return Responder(service.client, answers, queue=service.identity.name)
