"""Changes common to all aggregates: insert a row for the first event, update it for later ones."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Insert, Table, Update, bindparam, insert, update

from eventstore import RecordedEvent
from eventstore.projections import BoundStatement


def last_event(recorded: RecordedEvent) -> dict[str, int]:
    """The columns that identify the last event that changed a row."""
    return {"version": recorded.version, "position": recorded.position}


def created(table: Table, recorded: RecordedEvent, **values: Any) -> BoundStatement:
    """A new row for the event's aggregate."""
    time = recorded.time
    row = {
        "id": recorded.aggregate_id,
        "created_at": time,
        "updated_at": time,
        "version": recorded.version,
        "position": recorded.position,
        **values,
    }
    return BoundStatement(_insert(table), row)


def changed(table: Table, recorded: RecordedEvent, **values: Any) -> BoundStatement:
    """New values in the row of the event's aggregate."""
    row = {
        "aggregate_id": recorded.aggregate_id,
        "updated_at": recorded.time,
        "version": recorded.version,
        "position": recorded.position,
        **values,
    }
    return BoundStatement(_update(table), row)


@cache
def _insert(table: Table) -> Insert:
    return insert(table)


@cache
def _update(table: Table) -> Update:
    return update(table).where(table.c.id == bindparam("aggregate_id"))
