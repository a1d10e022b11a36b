"""The audit index as it is asked: what belongs to a story, and what fits a search."""

from __future__ import annotations

import heapq
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from eventstore.errors import ProjectionError
from projections.audit.entries import (
    TABLES,
    Cursor,
    Entry,
    Filter,
    Kind,
    Order,
    ordered,
)
from projections.audit.events import audit
from projections.audit.models import audit_command, audit_event
from projections.audit.story import Story, tell
from projections.models import projection

__all__ = ["AuditIndex", "Found", "NoAuditIndex", "UnknownId"]

_ID = re.compile(r"[0-9a-f-]{8,36}")
_MOST_CAUSES = 1_000
_AT_ONCE = 500
_PAGE = 1_000


class UnknownId(ProjectionError):
    """No event, command or story of the index has this id, or several begin like it."""

    code = "unknown_id"


class NoAuditIndex(ProjectionError):
    """The database has no audit index, or one that was never built."""

    code = "no_audit_index"


class Found(Struct, frozen=True):
    """What a search has found; `next` is the cursor to go on after, None where there is no more."""

    entries: tuple[Entry, ...]
    next: str | None


class AuditIndex:
    """Answers from the tables of the audit index.

    Each answer is taken from one unchanging state of the database. Every method raises
    `NoAuditIndex` where there is none, and SQLAlchemy's errors where the database fails.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def position(self) -> int:
        """The log position up to which events are indexed."""
        query = select(projection.c.position).where(projection.c.name == audit.name)
        async with self._engine.connect() as connection:
            try:
                position = await connection.scalar(query)
            except (OperationalError, ProgrammingError) as error:
                raise NoAuditIndex("the database has no read models") from error
        if position is None:
            raise NoAuditIndex("the read models in this database have no audit index yet")
        return int(position)

    async def trace(self, asked: str, *, limit: int = 200, max_depth: int | None = None) -> Story:
        """The story that a message belongs to, as a tree of causes.

        `asked` is the id of an event or a command, or a correlation id, or at least the first eight
        characters of one. Where there are more than `limit` messages, the first ones are told, and
        the one that was asked for with all its causes. Raises `UnknownId`.
        """
        async with self._engine.connect() as connection:
            own, correlation = await self._resolve(connection, asked)
            events = await self._of_story(connection, "event", correlation, limit)
            commands = await self._of_story(connection, "command", correlation, limit)
            counts = [
                await self._count(connection, audit_event.c.correlation_id == correlation),
                await self._count(connection, _command_of(correlation)),
            ]
            first = heapq.nsmallest(limit, [*events, *commands], key=lambda entry: entry.order)
            chosen = {entry.id: entry for entry in first}
            for entry in await self._named(connection, {own} - chosen.keys()):
                chosen[entry.id] = entry
            await self._add_causes(connection, chosen)
        total = max(sum(counts), len(chosen))
        return Story(
            correlation_id=correlation,
            asked=own,
            events=counts[0],
            commands=max(counts[1], sum(each.kind == "command" for each in chosen.values())),
            untold=total - len(chosen),
            lines=tell(chosen.values(), max_depth),
        )

    async def search(
        self,
        wanted: Filter | None = None,
        *,
        order: Order = "newest",
        limit: int = 50,
        after: str | None = None,
    ) -> Found:
        """Up to `limit` entries that fit, in the order of time, after the cursor `after`.

        Raises `InvalidCursor`.
        """
        place = None if after is None else Cursor.from_text(after)
        async with self._engine.connect() as connection:
            entries = await _page(connection, wanted or Filter(), order, limit + 1, place)
        more = len(entries) > limit
        shown = entries[:limit]
        return Found(tuple(shown), Cursor.of(shown[-1]).to_text() if more and shown else None)

    async def count(self, wanted: Filter | None = None) -> int:
        """How many entries fit."""
        async with self._engine.connect() as connection:
            return await _count_all(connection, wanted or Filter())

    async def read(
        self, wanted: Filter | None = None, *, page: int = _PAGE
    ) -> AsyncGenerator[list[Entry], None]:
        """All entries that fit, oldest first, in pages: those that were there when it began."""
        place: Cursor | None = None
        async with self._engine.connect() as connection:
            while entries := await _page(connection, wanted or Filter(), "oldest", page, place):
                yield entries
                place = Cursor.of(entries[-1])

    async def _resolve(self, connection: AsyncConnection, asked: str) -> tuple[str, str]:
        """The whole id that is meant, and the story it belongs to."""
        text = asked.strip().lower()
        if not _ID.fullmatch(text):
            raise UnknownId(
                f"{asked[:80]!r} is no id: give a UUID, or at least its first eight characters"
            )
        own = text if len(text) == 36 else await self._completed(connection, text)
        for table in (audit_event, audit_command):
            correlation = await connection.scalar(
                select(table.c.correlation_id).where(table.c.id == own).limit(1)
            )
            if correlation is not None:
                return own, str(correlation)
        for column in (
            audit_event.c.correlation_id,
            audit_event.c.causation_id,
            audit_command.c.correlation_id,
            audit_command.c.causation_id,
            audit_command.c.id,
        ):
            row = (await connection.execute(_story_where(column, own).limit(1))).first()
            if row is not None:
                return own, str(row[0] or own)
        raise UnknownId(f"no event, command or story in the audit index has the id {own}")

    async def _completed(self, connection: AsyncConnection, start: str) -> str:
        found: set[str] = set()
        for table in TABLES.values():
            for column in (table.c.id, table.c.correlation_id, table.c.causation_id):
                begins = column.between(start, f"{start}g")
                rows = await connection.scalars(select(column).where(begins).distinct().limit(3))
                found.update(rows)
        if not found:
            raise UnknownId(f"no id in the audit index begins with {start}")
        if len(found) > 1:
            listed = ", ".join(sorted(found)[:3])
            raise UnknownId(f"several ids begin with {start}: {listed}; give more of it")
        return found.pop()

    async def _of_story(
        self, connection: AsyncConnection, kind: Kind, correlation: str, limit: int
    ) -> list[Entry]:
        table = TABLES[kind]
        belongs = (
            table.c.correlation_id == correlation if kind == "event" else _command_of(correlation)
        )
        query = ordered(select(table).where(belongs), kind, "oldest", None)
        return await _entries(connection, kind, query.limit(limit))

    async def _count(self, connection: AsyncConnection, belongs: ColumnElement[bool]) -> int:
        counted = await connection.scalar(select(func.count()).where(belongs))
        return int(counted or 0)

    async def _named(self, connection: AsyncConnection, ids: Iterable[str]) -> list[Entry]:
        """The events and commands that have these ids, of whatever story."""
        wanted = sorted(ids)
        found: list[Entry] = []
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            for kind, table in TABLES.items():
                query = ordered(select(table).where(table.c.id.in_(some)), kind, "newest", None)
                found.extend(await _entries(connection, kind, query))
        return found

    async def _add_causes(self, connection: AsyncConnection, chosen: dict[str, Entry]) -> None:
        """Add what led to the chosen ones, as far back as the index knows."""
        asked: set[str] = set()
        for _ in range(_MOST_CAUSES):
            named = {each.causation_id for each in chosen.values() if each.causation_id}
            missing = named - chosen.keys() - asked
            if not missing:
                return
            asked |= missing
            for entry in await self._named(connection, missing):
                chosen[entry.id] = entry


def _command_of(correlation: str) -> ColumnElement[bool]:
    """Commands of a story; its root may have been kept by an earlier version, without saying so."""
    columns = audit_command.c
    return or_(columns.correlation_id == correlation, columns.id == correlation)


def _story_where(column: Any, own: str) -> Select[Any]:
    return select(column.table.c.correlation_id).where(column == own)


async def _entries(connection: AsyncConnection, kind: Kind, query: Select[Any]) -> list[Entry]:
    rows = (await connection.execute(query)).mappings()
    return [Entry.of(kind, row) for row in rows]


async def _page(
    connection: AsyncConnection, wanted: Filter, order: Order, limit: int, after: Cursor | None
) -> list[Entry]:
    found: list[Sequence[Entry]] = []
    for kind in wanted.kinds:
        query = ordered(wanted.select(kind), kind, order, after).limit(limit)
        found.append(await _entries(connection, kind, query))
    merged = heapq.merge(*found, key=lambda entry: entry.order, reverse=order == "newest")
    return [entry for entry, _ in zip(merged, range(limit), strict=False)]


async def _count_all(connection: AsyncConnection, wanted: Filter) -> int:
    total = 0
    for kind in wanted.kinds:
        counted = select(func.count()).select_from(wanted.select(kind).subquery())
        total += int(await connection.scalar(counted) or 0)
    return total
