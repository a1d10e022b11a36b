"""Search the audit index: matching entries of both tables, in the order of time, in pages."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Select, Table, and_, func, literal, null, or_, select

from eventstore.audit import AuditEntry, SearchAudit
from eventstore.audit.entries import Kind, Order
from eventstore.messages.queries import Listed
from eventstore.projections.audit.models import audit_command, audit_event, equal
from eventstore.projections.queries import cursor
from eventstore.projections.queries.rows import Rows

TABLES: Mapping[Kind, Table] = {"command": audit_command, "event": audit_event}

_EXACT = (
    "type",
    "aggregate",
    "aggregate_id",
    "actor",
    "correlation_id",
    "causation_id",
    "status",
)

_IDS = ("correlation_id", "causation_id")

_ORDERED_BY = ("time",)


class _SortKey(Struct, frozen=True, array_like=True):
    """The sort key of an entry: its time, its kind, and the `key` that breaks ties in a table."""

    time: Annotated[datetime, Meta(tz=True)]
    kind: Kind
    key: int | str

    def __post_init__(self) -> None:
        if isinstance(self.key, int) != (self.kind == "event"):
            raise ValueError(f"{self.key!r} is no key of this kind of entries")


def search(query: SearchAudit, rows: Rows) -> Listed[AuditEntry]:
    """A page of the matching entries; raises `InvalidPayload` for a bad cursor."""
    # A cursor is bound to no times: "an hour ago" is another time when the next page is requested.
    timeless = msgspec.structs.replace(query, since=None, until=None)
    start = None if query.after is None else cursor.decode(timeless, _ORDERED_BY, _SortKey)
    found: list[Sequence[AuditEntry]] = []
    for kind in query.kinds:
        statement = ordered(_matching(query, kind), kind, query.order, start)
        # One more than is requested, to know whether there are more.
        found.append(entries(rows, kind, statement.limit(query.limit + 1)))
    merged = heapq.merge(*found, key=lambda entry: entry.order, reverse=query.order == "newest")
    items = [entry for entry, _ in zip(merged, range(query.limit + 1), strict=False)]
    if len(items) <= query.limit:
        return Listed(items=items)
    last = items[-2]
    end = _SortKey(last.time, last.kind, last.position if last.kind == "event" else last.id)
    return Listed(items=items[:-1], next=cursor.encode(timeless, _ORDERED_BY, end))


def count(query: SearchAudit, rows: Rows) -> int:
    """How many entries match."""
    return sum(rows.count(_matching(query, kind)) for kind in query.kinds)


def entries(rows: Rows, kind: Kind, statement: Select[Any]) -> list[AuditEntry]:
    """The entries that a statement selects from the table of one kind."""
    return rows.all(statement.add_columns(literal(kind).label("kind")), AuditEntry)


def ordered(
    statement: Select[Any], kind: Kind, order: Order, after: _SortKey | None = None
) -> Select[Any]:
    """The entries of one kind in the order of time, after a sort key if one is given."""
    table = TABLES[kind]
    key = _key(kind)
    if order == "newest":
        statement = statement.order_by(table.c.time.desc(), key.desc())
    else:
        statement = statement.order_by(table.c.time, key)
    return statement if after is None else statement.where(_after(kind, order, after))


def _matching(query: SearchAudit, kind: Kind) -> Select[Any]:
    table = TABLES[kind]
    named = {name: getattr(query, name) for name in _EXACT}
    given = {table.c[name]: value for name, value in named.items() if value is not None}
    ids = [column for column in given if column.name in _IDS]
    # Few entries have one id. SQLite has no statistics, and may prefer the index of another filter.
    found = [equal(each, given.pop(each)) for each in ids]
    found += [
        _unindexed(each) == value if ids else equal(each, value) for each, value in given.items()
    ]
    if query.since is not None:
        found.append(table.c.time >= query.since)
    if query.until is not None:
        found.append(table.c.time < query.until)
    return select(table).where(*found)


def _unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same values, for which no index is used."""
    return func.coalesce(column, null())


def _after(kind: Kind, order: Order, start: _SortKey) -> ColumnElement[bool]:
    """The entries after a sort key; at the same time, kind and key decide."""
    is_rising = order == "oldest"
    time, key = TABLES[kind].c.time, _key(kind)
    past: ColumnElement[bool] = time > start.time if is_rising else time < start.time
    if kind == start.kind:
        own = key > start.key if is_rising else key < start.key
        return or_(past, and_(time == start.time, own))
    return or_(past, time == start.time) if (kind == "event") == is_rising else past


def _key(kind: Kind) -> ColumnElement[Any]:
    return audit_event.c.position if kind == "event" else audit_command.c.id
