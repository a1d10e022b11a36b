"""The start of an application, step by step, and its stop, in the opposite order.

No other module knows both the write side and the read side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from eventstore.application.assembly import (
    new_collector,
    new_endpoints,
    new_feed,
    new_projection_control,
    new_projections,
    new_queries,
    new_subscribers,
    new_supervised,
)
from eventstore.application.components import GRACE_SECONDS, ReadyComponent, running
from eventstore.application.declaration import Declaration
from eventstore.application.isolation import IsolationWatch
from eventstore.application.observability import (
    make_telemetry,
    ready_over_http,
    serve_http,
    service_health,
)
from eventstore.application.parts import Parts
from eventstore.application.process_link import ProcessLink
from eventstore.application.read_models import checkpoints_of, read_model_of
from eventstore.application.read_process import ReadProcess
from eventstore.application.read_side import ParentLink
from eventstore.application.server import opened_server
from eventstore.application.service import RunningApplication
from eventstore.application.write_side import WriteSide
from eventstore.config import Settings
from eventstore.service.config_watcher import ConfigWatcher
from eventstore.service.metrics import Metrics
from eventstore.service.micro import EndpointStats

_END_SECONDS = 5.0
"""How long the second process may take to end when its components have."""


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
    own = parts.write_side if in_two else parts
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        database = None
        if own.read_database:
            database = await enter(read_model_of(app, settings, telemetry))
        named = await enter(opened_server(settings, directory))
        # In either process, the log is compared with all read models before anything is decided.
        compared = checkpoints_of(app, settings, database) if parts.read_database else None
        write_side = await enter(
            WriteSide(
                app.domain,
                named,
                name=identity.name,
                worker=own.worker,
                waits=True,
                checkpoints=compared,
                processes=app.processes,
                clock=app.clock,
                telemetry=telemetry,
            )
        )
        http_server = await enter(serve_http(metrics, settings.operations.metrics_address))
        projected = database if own.projections else None
        service = RunningApplication(
            *(app, named, identity, write_side, database),
            projections=await new_projections(app, write_side, projected, telemetry),
            collector=new_collector(write_side, projected),
            read_process=ReadProcess(metrics) if in_two else None,
            http_server=http_server,
            telemetry=telemetry,
        )
        await enter(_configured(service))  # before a projection runs that is to be paused
        await enter(_second_process(service.read_process))
        await enter(_answering(service, own, metrics, link))
        write_side.begin()  # when all others work: one that cannot has led to no decision
        if own.worker:
            await service.worker.ready.wait()
        yield service


@asynccontextmanager
async def _configured(service: RunningApplication) -> AsyncIterator[None]:
    """Follow the runtime configuration, and leave a server that is cut off from its cluster."""
    control = ConfigWatcher(
        service.client,
        service.domain.codec.subjects,
        queue_limit=service.settings.streams.queue_limit,
        pausable=service.projections,
    )
    watch = IsolationWatch(service.client, service.domain.codec.subjects.log_stream)
    async with running(control, watch):
        await control.ready.wait()
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
    """Run the read side's components, and answer for them, once each of them is ready."""
    feed = new_feed(service) if parts.feed else None
    subscribers = new_subscribers(service) if parts.subscribers else []
    supervised = new_supervised(service, subscribers)
    answering: list[ReadyComponent] = [*supervised]
    queries: list[EndpointStats] = []
    if parts.queries:
        answering.append(new_queries(service, await service.store.identity(), queries))
    if service.projections is not None:
        answering += new_projection_control(service)
    health = service_health(
        service,
        feed=feed,
        subscribers=subscribers,
        supervised=supervised,
        is_second=link is not None,
    )
    parent = None if link is None else ParentLink(link, health, metrics, queries)
    answering += [parent] if parent else new_endpoints(service, health, queries, metrics)
    background = [each for each in (service.collector, feed) if each is not None]
    async with running(*background, *answering):
        for part in answering:
            await part.ready.wait()
        if parent is not None:
            parent.announce(service.read_model_name)
        with ready_over_http(service.http_server, health):
            yield
