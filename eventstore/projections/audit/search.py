"""Searching the audit index: what fits, from both tables, in the order of time, in pages."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Select, Table, and_, literal, or_, select

from eventstore.audit import AuditEntry, SearchAudit
from eventstore.audit.entries import Kind, Order
from eventstore.messages.queries import Listed
from eventstore.projections.audit.models import audit_command, audit_event
from eventstore.projections.queries import cursor
from eventstore.projections.queries.filters import equals
from eventstore.projections.queries.rows import Rows

__all__ = ["TABLES", "count", "entries", "ordered", "search"]

TABLES: Mapping[Kind, Table] = {"command": audit_command, "event": audit_event}

_EXACTLY = (
    "type",
    "aggregate",
    "aggregate_id",
    "actor",
    "correlation_id",
    "causation_id",
    "status",
)


_ORDERED_BY = ("time",)


class _Place(Struct, frozen=True, array_like=True):
    """A place between two entries, in the order of time; `key` is what breaks ties in a table."""

    time: Annotated[datetime, Meta(tz=True)]
    kind: Kind
    key: int | str

    def __post_init__(self) -> None:
        if isinstance(self.key, int) != (self.kind == "event"):
            raise ValueError(f"{self.key!r} is no key of this kind of entries")

    @classmethod
    def of(cls, entry: AuditEntry) -> _Place:
        return cls(entry.time, entry.kind, entry.position if entry.kind == "event" else entry.id)


def _place(query: SearchAudit) -> _Place | None:
    """Where the part that is asked for begins; raises `InvalidPayload` for a bad cursor."""
    if query.after is None:
        return None
    return cursor.decode(_without_times(query), _ORDERED_BY, _Place)


def _without_times(query: SearchAudit) -> SearchAudit:
    """What a cursor is bound to: "an hour ago" is another time when the next part is asked for."""
    return msgspec.structs.replace(query, since=None, until=None)


def search(query: SearchAudit, rows: Rows) -> Listed[AuditEntry]:
    """The part of the entries that a query asks for; raises `InvalidPayload` for a bad cursor."""
    place = _place(query)
    found: list[Sequence[AuditEntry]] = []
    for kind in query.kinds:
        statement = ordered(_fitting(query, kind), kind, query.order, place)
        # One more than is asked for, to know whether there is more.
        found.append(entries(rows, kind, statement.limit(query.limit + 1)))
    merged = heapq.merge(*found, key=lambda entry: entry.order, reverse=query.order == "newest")
    items = [entry for entry, _ in zip(merged, range(query.limit + 1), strict=False)]
    if len(items) <= query.limit:
        return Listed(items=items)
    end = cursor.encode(_without_times(query), _ORDERED_BY, _Place.of(items[-2]))
    return Listed(items=items[:-1], next=end)


def count(query: SearchAudit, rows: Rows) -> int:
    """How many entries fit."""
    return sum(rows.count(_fitting(query, kind)) for kind in query.kinds)


def entries(rows: Rows, kind: Kind, statement: Select[Any]) -> list[AuditEntry]:
    """All that a statement selects from the table of one kind."""
    return rows.all(statement.add_columns(literal(kind).label("kind")), AuditEntry)


def ordered(
    statement: Select[Any], kind: Kind, order: Order, after: _Place | None = None
) -> Select[Any]:
    """The entries of one kind in the order of time, those behind a place only."""
    table = TABLES[kind]
    key = _key(kind)
    if order == "newest":
        statement = statement.order_by(table.c.time.desc(), key.desc())
    else:
        statement = statement.order_by(table.c.time, key)
    return statement if after is None else statement.where(_behind(kind, order, after))


def _fitting(query: SearchAudit, kind: Kind) -> Select[Any]:
    table = TABLES[kind]
    given = {name: getattr(query, name) for name in _EXACTLY}
    found = [equals(table.c[name], value) for name, value in given.items() if value is not None]
    if query.since is not None:
        found.append(table.c.time >= query.since)
    if query.until is not None:
        found.append(table.c.time < query.until)
    return select(table).where(*found)


def _behind(kind: Kind, order: Order, place: _Place) -> ColumnElement[bool]:
    """What lies on the far side of a place: at its own time that hangs on kind and key."""
    is_rising = order == "oldest"
    time, key = TABLES[kind].c.time, _key(kind)
    past: ColumnElement[bool] = time > place.time if is_rising else time < place.time
    if kind == place.kind:
        own = key > place.key if is_rising else key < place.key
        return or_(past, and_(time == place.time, own))
    return or_(past, time == place.time) if (kind == "event") == is_rising else past


def _key(kind: Kind) -> ColumnElement[Any]:
    return audit_event.c.position if kind == "event" else audit_command.c.id
