"""The switch: the rows of a shadow replace the live ones, with their checkpoint, atomically."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy import Connection, FromClause, Table, delete, insert, select

from eventstore.messages.envelope import utc_now
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.backends import advance_keys
from eventstore.projections.database.checkpoint import ExpectedCheckpoint
from eventstore.projections.database.tables import parked_event
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.shadow import tables_of
from eventstore.projections.worker.apply import apply
from eventstore.store.reader import Page


class SwitchBehind(Struct, frozen=True):
    """Nothing was switched: the live rows are at a `position` after all that was read."""

    position: int


def switch(
    connection: Connection,
    shadow_of: Callable[[Table], FromClause],
    projection: Projection,
    position: int,
    buffered: Callable[[], Sequence[Page]],
    log: str,
) -> int | SwitchBehind:
    """Replace the live rows by the shadow's, which are at `position`, and the checkpoint with them.

    `buffered` returns the following pages of the log that have been read. It is called when the
    live rows are locked, and its pages are applied on top, so that a query that has waited for a
    position never sees rows from before it. Returns the position of the rows that are live now.
    Raises `PoisonEvent`.
    """
    live = checkpoint.lock(connection, projection.name)
    ahead = buffered()
    until = ahead[-1].position if ahead else position
    if live is not None and live.position > until and live.log in {None, log}:
        return SwitchBehind(live.position)
    _clear(connection, projection)
    for table in (*tables_of(projection), parked_event):
        _copy(connection, table, shadow_of(table))
    checkpoint.restart(connection, projection, position, utc_now(), log)
    if until > position:
        events = [event for page in ahead for event in page.log_events]
        start = [ExpectedCheckpoint(projection, position)]
        apply(connection, start, events, until, utc_now())
    return until


def reset(connection: Connection, projection: Projection) -> None:
    """Delete all rows of a projection, and have its worker build them from scratch."""
    checkpoint.lock(connection, projection.name)
    _clear(connection, projection)
    checkpoint.restart(connection, projection, 0, utc_now())


def _clear(connection: Connection, projection: Projection) -> None:
    for table in reversed(tables_of(projection)):
        connection.execute(delete(table))
    parking.forget_after(connection, projection.name, 0)


def _copy(connection: Connection, table: Table, source: FromClause) -> None:
    names = [column.name for column in table.columns if column.computed is None]
    rows = select(*(source.c[name] for name in names))
    connection.execute(insert(table).from_select(names, rows))
    advance_keys(connection, table)
