"""The components of a running application, made from what it declares."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from eventstore.actions import action_answers
from eventstore.application.components import ReadyComponent
from eventstore.application.declaration import Declaration
from eventstore.application.observability import service_endpoints
from eventstore.application.read_models import projections_of
from eventstore.application.service import RunningApplication
from eventstore.application.supervision import SupervisedPart
from eventstore.application.write_side import WriteSide
from eventstore.audit.aggregate_history import history_answers
from eventstore.client.responder import Answer, Responder
from eventstore.commands.status import status_answers
from eventstore.delegation import (
    ConfigurationRequests,
    ConsumerRequests,
    ParkingRequests,
    ProjectionRequests,
    TimerRequests,
)
from eventstore.processes import Process, process_answers, process_runner
from eventstore.projections.audit import CommandCollector, audit_queries
from eventstore.projections.control import ProjectionControl
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.supervisor import FeedSupervisor
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.health import Health
from eventstore.service.metrics import Metrics
from eventstore.service.micro import EndpointStats, endpoint_stats
from eventstore.subscribers import EventSubscriber, Subscriber
from eventstore.telemetry import Telemetry

_MAX_PENDING_QUERIES = 4_096  # most of them wait for a position, and delay no others


async def new_projections(
    app: Declaration, write_side: WriteSide, database: Database | None, telemetry: Telemetry
) -> ProjectionWorker | None:
    """What keeps the rows up to date, and rebuilds outdated ones; None without a database."""
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


def new_collector(write_side: WriteSide, database: Database | None) -> CommandCollector | None:
    """What collects commands and their outcomes for the audit index."""
    if database is None:
        return None
    return CommandCollector(write_side.client, write_side.domain.codec.subjects, database)


def new_supervised(
    service: RunningApplication, subscribers: Iterable[EventSubscriber]
) -> list[SupervisedPart]:
    """The parts whose failures end nothing else, nor the service."""
    parts = {f"subscriber {each.name}": each for each in subscribers}
    projections = {} if service.projections is None else {"projections": service.projections}
    named: dict[str, ReadyComponent] = {**parts, **projections}
    return [SupervisedPart(name, part, service.client) for name, part in named.items()]


def new_queries(service: RunningApplication, log: str, endpoints: list[EndpointStats]) -> Responder:
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
    history = history_answers(service.client, service.domain, service.snapshots)
    actions = action_answers(service.client, subjects)
    processes = process_answers(service.client, service.store, service.app.processes)
    answers = status | history | actions | processes | answered
    name = service.identity.name
    endpoints += [endpoint_stats(subject, name) for subject in answers]
    counted = {each.subject: each.counting(answers[each.subject]) for each in endpoints}
    return Responder(service.client, counted, queue=name, max_pending=_MAX_PENDING_QUERIES)


def new_projection_control(service: RunningApplication) -> list[ReadyComponent]:
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


def new_feed(service: RunningApplication) -> FeedSupervisor:
    """What publishes the events."""
    options = {"cloudevents": service.settings.operations.cloudevents}
    telemetry = service.telemetry
    return FeedSupervisor(
        lambda: Feed(service.client, service.store, **options, telemetry=telemetry)
    )


def new_subscribers(service: RunningApplication) -> list[EventSubscriber]:
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


def new_delegation(service: RunningApplication) -> Responder:
    """The responder for users of other accounts, who may not use JetStream themselves."""
    answers: dict[str, Answer] = {}
    for kind in (ConsumerRequests, ConfigurationRequests, ParkingRequests, TimerRequests):
        answers |= kind(service.client, service.domain.codec.subjects).answers()
    return Responder(service.client, answers, queue=service.identity.name)


def new_endpoints(
    service: RunningApplication, health: Health, queries: list[EndpointStats], metrics: Metrics
) -> list[ReadyComponent]:
    """What answers for the whole service, its second process included."""
    process = service.read_process
    answered = (lambda: queries) if process is None else (lambda: process.queries)
    endpoints = service_endpoints(service, health, queries=answered, metrics=metrics)
    return [new_delegation(service), endpoints]
