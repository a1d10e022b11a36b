"""Tracing in the audit index: the correlation of an id, and the messages that have it."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, or_, select

from eventstore.audit import AuditEntry, CausationTree, TraceCorrelation
from eventstore.audit.causation_tree import causation_entries
from eventstore.concurrency.chunks import chunked
from eventstore.errors import QueryNotFound
from eventstore.projections.audit.models import audit_command, audit_event, equal, unusual
from eventstore.projections.audit.search import TABLES, entries, ordered
from eventstore.projections.queries.rows import Rows

_ID = re.compile(r"[0-9a-f-]{8,36}")
_MAX_CAUSES = 1_000
_BATCH = 500


def trace(query: TraceCorrelation, rows: Rows) -> CausationTree:
    """The trace that a message belongs to: all messages with its correlation.

    If there are more messages than requested, it has the first ones, and the requested one with all
    its causes. Raises `QueryNotFound` for an unknown id, or an ambiguous beginning of one.
    """
    own, correlation = _resolved(rows, query.id)
    belongs = {
        "event": audit_event.c.correlation_id == correlation,
        # Its root may have been recorded by an earlier version, without its correlation.
        "command": or_(
            equal(audit_command.c.correlation_id, correlation), audit_command.c.id == correlation
        ),
    }
    matching = {kind: select(table).where(belongs[kind]) for kind, table in TABLES.items()}
    every = [
        entry
        for kind, statement in matching.items()
        for entry in entries(rows, kind, ordered(statement, kind, "oldest").limit(query.limit))
    ]
    counts = {kind: rows.count(statement) for kind, statement in matching.items()}
    first = heapq.nsmallest(query.limit, every, key=lambda entry: entry.order)
    chosen = {entry.id: entry for entry in first}
    _add(rows, {own} - chosen.keys(), chosen)
    _add_causes(rows, chosen)
    commands = sum(entry.kind == "command" for entry in chosen.values())
    return CausationTree(
        correlation_id=correlation,
        asked=own,
        events=counts["event"],
        commands=max(counts["command"], commands),
        untold=max(0, sum(counts.values()) - len(chosen)),
        lines=causation_entries(chosen.values(), query.depth),
    )


def _resolved(rows: Rows, requested: str) -> tuple[str, str]:
    text = requested.strip().lower()
    if not _ID.fullmatch(text):
        raise QueryNotFound(
            f"{requested[:80]!r} is not an id: give a UUID, or at least its first eight characters"
        )
    own = text if len(text) == 36 else _completed(rows, text)
    events, commands = audit_event.c, audit_command.c
    for column in (
        *(events.id, commands.id),
        *(events.correlation_id, events.causation_id),
        *(commands.correlation_id, commands.causation_id),
    ):
        found = rows.first(select(column.table.c.correlation_id).where(equal(column, own)).limit(1))
        if found is not None and found[0] is not None:
            return own, str(found[0])
    if rows.first(select(commands.id).where(commands.id == own)) is not None:
        return own, own  # it was recorded by an earlier version, without its correlation
    raise QueryNotFound(
        f"no event, command or correlation in the audit index has the id {own}; "
        "if it is an aggregate's, use audit history or audit search"
    )


def _completed(rows: Rows, start: str) -> str:
    found: set[str] = set()
    for table in TABLES.values():
        for column in (table.c.id, table.c.correlation_id, table.c.causation_id):
            # In any collation, "g" sorts after all digits of an id.
            begins = column.between(start, f"{start}g")
            some = select(func.min(column), func.max(column)).where(begins, *unusual(column))
            bounds = rows.first(some)
            found.update(each for each in bounds or () if each is not None)
    if not found:
        raise QueryNotFound(f"no id in the audit index begins with {start}")
    if len(found) > 1:
        listed = ", ".join(sorted(found)[:3])
        raise QueryNotFound(f"several ids begin with {start}: {listed}; give more characters")
    return found.pop()


def _add(rows: Rows, ids: Iterable[str], chosen: dict[str, AuditEntry]) -> None:
    """Add the events and commands with these ids, of any correlation."""
    for some in chunked(sorted(ids), _BATCH):
        for kind, table in TABLES.items():
            named: Any = select(table).where(table.c.id.in_(some))
            for entry in entries(rows, kind, ordered(named, kind, "oldest")):
                chosen.setdefault(entry.id, entry)


def _add_causes(rows: Rows, chosen: dict[str, AuditEntry]) -> None:
    """Add the causes of the chosen ones, as far back as the index has them."""
    looked_up: set[str] = set()
    for _ in range(_MAX_CAUSES):
        named = {each.causation_id for each in chosen.values() if each.causation_id}
        missing = named - chosen.keys() - looked_up
        if not missing:
            return
        looked_up |= missing
        _add(rows, missing, chosen)
