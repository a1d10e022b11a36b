"""The audit index: of the read model here, or of a running service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from eventstore.audit import AuditEntry, CausationTree, SearchAudit, TraceCorrelation
from eventstore.cli.output.terminal import program
from eventstore.cli.read_models import is_there
from eventstore.cli.session import Session
from eventstore.client.queries import QueryClient
from eventstore.errors import ClientError, NoAuditIndex, StreamMissing
from eventstore.jetstream.api import log_end
from eventstore.messages.queries import Listed
from eventstore.projections.audit import AuditIndex
from eventstore.projections.database.database import Database


class IndexPosition(Struct, frozen=True):
    """The `position` up to which the index reflects the log, whose `end` may be unknown (None)."""

    position: int
    end: int | None

    @property
    def about(self) -> str | None:
        """A note for people; None if the index reflects all of the log."""
        if self.end is None:
            return f"the index reflects the log up to position {self.position}"
        if self.end <= self.position:
            return None
        return f"the index reflects the log up to position {self.position} of {self.end}"


class ServiceIndex:
    """The audit index of a running service, reached by queries."""

    def __init__(self, queries: QueryClient) -> None:
        self._queries = queries

    async def position(self) -> int:
        """The position of the log up to which there are entries."""
        return (await self._queries.ask(SearchAudit(limit=1))).position

    async def trace(self, query: TraceCorrelation) -> CausationTree:
        """The causation tree; raises `QueryNotFound` and as `QueryClient` does."""
        return (await self._queries.ask(query)).data

    async def search(self, query: SearchAudit) -> Listed[AuditEntry]:
        """The matching entries; raises as `QueryClient` does."""
        return (await self._queries.ask(query)).data


@asynccontextmanager
async def index_of(session: Session) -> AsyncIterator[AuditIndex | ServiceIndex]:
    """The index of the read model in the settings, or else of the service in the settings.

    The service is asked if there is no such read model, as on the machine of an auditor. Raises
    what `opened_index` raises if no server is named either, and `ClientError`.
    """
    settings = session.settings
    if settings.nats.url and not is_there(Database(settings.read_model.database)):
        async with session.connect() as client:
            yield ServiceIndex(QueryClient(client, session.subjects))
    else:
        async with opened_index(session) as index:
            yield index


@asynccontextmanager
async def opened_index(session: Session) -> AsyncIterator[AuditIndex]:
    """The index of the read model in the settings.

    Raises `NoAuditIndex`, saying what to do, `MigrationError` for tables of another release, and
    what opening a database raises.
    """
    database = Database(session.settings.read_model.database)
    try:
        _check_there(database)
        async with database:
            if (await database.revisions())[0].found:  # else it has no index, which is said so
                await database.check_schema()
            yield AuditIndex(database.engine)
    except NoAuditIndex as error:
        raise NoAuditIndex(
            f"{database.name}: {error}; start `{program()} serve`, which builds it, or name "
            "another with --database or --dir"
        ) from error


def _check_there(database: Database) -> None:
    """Raise `NoAuditIndex` for a file that does not exist, because opening it would create it."""
    if not is_there(database):
        raise NoAuditIndex("there is no read model")


async def index_position(index: AuditIndex | ServiceIndex, session: Session) -> IndexPosition:
    """The positions of the index and of the log; raises `NoAuditIndex`."""
    position = await index.position()
    try:
        async with session.connect() as client:
            return IndexPosition(position, await log_end(client, session.subjects))
    except (ClientError, StreamMissing):  # the index answers without the log, too
        return IndexPosition(position, None)
