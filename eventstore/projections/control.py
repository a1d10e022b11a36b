"""The projections of a running service, seen and controlled from outside of its process.

Queries about them are answered for everybody who may send queries; to rebuild one, and to retry or
discard what it has parked, is for `eventstore.delegation.ProjectionRequests`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import ConfigurationError, EventStoreError
from eventstore.messages.headers import POSITION
from eventstore.messages.queries import Query, read_query
from eventstore.messages.text import make_log_records_safe, presentable
from eventstore.projections.database.database import Database
from eventstore.projections.database.parking import ParkedEvent
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.rebuild import Rebuild
from eventstore.projections.status import ProjectionStatus, server_facts, statuses
from eventstore.projections.worker import parked_events
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_logger = make_log_records_safe(logging.getLogger(__name__))


class ProjectionList(Struct, frozen=True, kw_only=True):
    """The status of every projection of a service.

    `problem` is what the server did not say, and why. `failed_rebuilds` are the reasons, by the
    projection's name, of the last rebuilds that were requested from the process that answers.
    """

    projections: tuple[ProjectionStatus, ...]
    problem: str | None = None
    failed_rebuilds: dict[str, str] = {}


class ListProjections(Query[ProjectionList], subject="projection.list"):
    """Get the status of every projection of a service."""

    __label__: ClassVar[str] = "ListProjections"


class ListParkedEvents(Query[list[ParkedEvent]], subject="projection.parked"):
    """Get the events that a projection has parked, in the order of the log.

    At most `limit`, those after the position `after`.
    """

    __label__: ClassVar[str] = "ListParkedEvents"

    projection: Annotated[str, Meta(max_length=128)]
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50


class ProjectionControl:
    """Answers about projections, and rebuilds them one after another; a component to be run."""

    def __init__(
        self,
        client: Client,
        store: EventStore,
        database: Database,
        projections: Sequence[Projection],
        *,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._store = store
        self._database = database
        self._projections = {each.name: each for each in projections}
        self._telemetry = telemetry
        self._wanted: dict[str, Projection] = {}
        self._changed = asyncio.Event()
        self._failed: dict[str, str] = {}
        self._stopping = False
        self.ready = asyncio.Event()

    def answers(self) -> dict[str, Answer]:
        """The answers of its queries for a `Responder`, by subject."""
        subjects = self._store.codec.subjects
        answered = {ListProjections: self._list, ListParkedEvents: self._parked}
        return {
            subjects.query(query.__aggregate__, query.__action__): answer
            for query, answer in answered.items()
        }

    def rebuild(self, name: str) -> None:
        """Have a projection rebuilt as soon as those requested before are.

        A rebuild that was interrupted is continued. Raises `ConfigurationError` for an unknown
        projection.
        """
        self._wanted[name] = self._named(name)
        self._changed.set()

    async def retry(self, name: str, position: int | None) -> tuple[int, int]:
        """Apply parked events; raises as `parked_events.retry` does."""
        found = await parked_events.retry(self._store, self._database, self._named(name), position)
        return len(found.retried), len(found.left)

    async def discard(self, name: str, position: int) -> None:
        """Give a parked event up; raises `NotParked`."""
        await parked_events.discard(self._database, self._named(name).name, position)

    def stop(self) -> None:
        """Have `run` return; a rebuild that is not complete can be continued."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Rebuild what is requested until `stop`; failures are logged, and reported in the list."""
        self.ready.set()
        while not self._stopping:
            self._changed.clear()
            if not self._wanted:
                await self._changed.wait()
                continue
            name = next(iter(self._wanted))
            await self._rebuild_or_stop(self._wanted[name])
            self._wanted.pop(name, None)

    async def _rebuild_or_stop(self, projection: Projection) -> None:
        task = asyncio.create_task(self._rebuild(projection))
        try:
            while not (task.done() or self._stopping):
                waiting = asyncio.create_task(self._changed.wait())
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                self._changed.clear()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _rebuild(self, projection: Projection) -> None:
        self._failed.pop(projection.name, None)
        _logger.warning("projection %s: its rebuild begins", projection.name)
        rebuild = Rebuild(self._store, self._database, projection, telemetry=self._telemetry)
        try:
            position = await rebuild.run()
        except EventStoreError as error:
            self._failed[projection.name] = presentable(error)
            _logger.warning("projection %s: its rebuild failed: %s", projection.name, error)
        else:
            _logger.warning("projection %s: rebuilt to position %d", projection.name, position)

    async def _list(self, request: Request) -> Reply:
        facts = await server_facts(self._client, self._store.codec.subjects)
        found = await statuses(self._database, [*self._projections.values()], facts)
        answer = ProjectionList(
            projections=tuple(found), problem=facts.problem, failed_rebuilds=dict(self._failed)
        )
        return Reply(msgspec.json.encode(answer), _at(facts.log_end))

    async def _parked(self, request: Request) -> Reply:
        query = read_query(ListParkedEvents, request.payload)
        found = await parked_events.parked_events(
            self._database, self._named(query.projection).name
        )
        some = [each for each in found if each.position > query.after][: query.limit]
        return Reply(msgspec.json.encode(some), _at(some[-1].position if some else query.after))

    def _named(self, name: str) -> Projection:
        if name not in self._projections:
            known = ", ".join(self._projections)
            raise ConfigurationError(f"there is no projection {name!r}; there are {known}")
        return self._projections[name]


def _at(position: int | None) -> Mapping[str, str]:
    return {POSITION: str(position or 0)}
