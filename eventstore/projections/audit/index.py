"""The audit index of a read-model database, queried through a service or directly."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, ProgrammingError

from eventstore.audit import AuditEntry, CausationTree, SearchAudit, TraceCorrelation
from eventstore.errors import NoAuditIndex
from eventstore.messages.queries import MAX_ITEMS, Listed
from eventstore.projections.audit import search, tracing
from eventstore.projections.audit.events import audit
from eventstore.projections.database.tables import checkpoints
from eventstore.projections.queries.queries import QueryHandlers
from eventstore.projections.queries.rows import Rows

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

audit_queries = QueryHandlers(audit)
"""The handlers of `TraceCorrelation` and `SearchAudit`; `GetHistory` is answered from the log."""

audit_queries.answers(tracing.trace)
audit_queries.answers(search.search)


class AuditIndex:
    """Answers from the tables of the audit index, each time from a consistent snapshot.

    The answers are those of a service to the same queries, for users with access to the database.
    Raises SQLAlchemy's errors if the database fails.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def position(self) -> int:
        """The log position up to which events are indexed; raises `NoAuditIndex`."""
        own = select(checkpoints.c.position).where(checkpoints.c.name == audit.name)
        try:
            found = await self._read(lambda rows: rows.first(own))
        except (OperationalError, ProgrammingError) as error:
            raise NoAuditIndex("the database has no read models") from error
        if found is None:
            raise NoAuditIndex("the read models in this database have no audit index yet")
        return int(found[0])

    async def trace(self, query: TraceCorrelation) -> CausationTree:
        """The trace that a message belongs to; raises `QueryNotFound`."""
        return await self._read(lambda rows: tracing.trace(query, rows))

    async def search(self, query: SearchAudit) -> Listed[AuditEntry]:
        """A page of the matching entries; raises `InvalidPayload` for a bad cursor."""
        return await self._read(lambda rows: search.search(query, rows))

    async def count(self, query: SearchAudit) -> int:
        """How many entries match."""
        return await self._read(lambda rows: search.count(query, rows))

    async def read(
        self, query: SearchAudit, *, page: int = MAX_ITEMS
    ) -> AsyncGenerator[list[AuditEntry], None]:
        """All matching entries, oldest first, in pages, as of when the iteration starts."""
        part = msgspec.structs.replace(query, order="oldest", limit=page)
        async with self._engine.connect() as connection:
            while True:
                found = await connection.run_sync(lambda c: search.search(part, Rows(c)))  # noqa: B023
                if found.items:
                    yield found.items
                if found.next is None:
                    return
                part = msgspec.structs.replace(part, after=found.next)

    async def _read(self, work: Callable[[Rows], T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(lambda connection: work(Rows(connection)))
