"""The switch: the rows of a shadow replace the live ones, with their checkpoint, atomically."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    ClauseElement,
    Column,
    Connection,
    DefaultClause,
    Table,
    and_,
    delete,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from eventstore.messages.envelope import utc_now
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database import checkpoint, declared, parking
from eventstore.projections.database.backends import cause_of, is_transient
from eventstore.projections.database.catalog import catalog_of, clause_of, create, target_of
from eventstore.projections.database.checkpoint import ExpectedCheckpoint
from eventstore.projections.database.tables import parked_event
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.declaration import Declaration
from eventstore.projections.rebuild.kept_rows import KeptRows
from eventstore.projections.rebuild.plan import (
    Plan,
    check_rows,
    plan,
)
from eventstore.projections.worker.apply import apply
from eventstore.store.log_mark import LogMark
from eventstore.store.reader import Page

_logger = make_log_records_safe(logging.getLogger(__name__))


class SwitchBehind(Struct, frozen=True):
    """Nothing was switched: the live rows are at a `position` after all that was read."""

    position: int


def switch(
    connection: Connection,
    shadow_of: Callable[[Table], Table],
    projection: Projection,
    position: int,
    buffered: Callable[[], Sequence[Page]],
    log: str,
    seen: LogMark | None = None,
) -> int | SwitchBehind:
    """Replace the live rows by the shadow's, which are at `position`, and the checkpoint with them.

    `seen` is the last event in the shadow's rows.
    `buffered` returns the following pages of the log that have been read. It is called when the
    live rows are locked, and its pages are applied on top, so that a query that has waited for a
    position never sees rows from before it. Returns the position of the rows that are live now.
    Raises `PoisonEvent`, `CannotReplace`, and `IntegrityError` for rows that do not fit.
    """
    live = checkpoint.lock(connection, projection.name)
    ahead = buffered()
    until = ahead[-1].position if ahead else position
    if live is not None and live.position > until and live.log in {None, log}:
        return SwitchBehind(live.position)
    _replace(connection, shadow_of, projection, plan(connection, shadow_of, projection))
    declared.replace(connection, projection)
    parking.replace(connection, projection.name, shadow_of(parked_event))
    checkpoint.restart(connection, projection, position, utc_now(), log, seen)
    if until > position:
        events = [event for page in ahead for event in page.log_events]
        start = [ExpectedCheckpoint(projection, position)]
        apply(connection, start, events, until, utc_now())
    return until


def reset(connection: Connection, projection: Projection) -> None:
    """Delete all rows of a projection, and have its worker build them from scratch.

    Raises `CannotReplace` if that would change what is not the projection's.
    """
    checkpoint.lock(connection, projection.name)
    check_rows(connection, projection)
    declaration = Declaration(projection)
    catalog_of(connection).empty(declaration.tables, circular=declaration.is_circular)
    parking.forget_after(connection, projection.name, 0)
    checkpoint.restart(connection, projection, 0, utc_now())


def _replace(
    connection: Connection, shadow_of: Callable[[Table], Table], projection: Projection, to_do: Plan
) -> None:
    """Replace the rows of all tables, and the tables that are not as they are declared."""
    catalog = catalog_of(connection)
    kept = KeptRows(projection, to_do.tables, to_do.references)
    others = {*kept.tables, *to_do.recreated, *to_do.missing}
    own = declared.indexes_of(connection, projection)
    belongings = [
        (table, statement)
        for table in to_do.recreated
        for statement in catalog.belongings(table, own[table.fullname])
    ]
    if to_do.recreated:  # before others are emptied, whose rows theirs may refer to
        catalog.recreate(to_do.recreated, [shadow_of(table) for table in to_do.recreated])
    emptied = [table for table in to_do.tables if table not in others]
    catalog.empty(emptied, circular=to_do.is_circular)
    for table, name in to_do.obsolete:
        catalog.drop_index(table, name)
    create(connection, to_do.missing)
    for index in to_do.indexes:
        index.create(connection)
    for table, statement in belongings:
        _restore(connection, table, statement)
    _settle(connection, shadow_of, projection)
    kept.delete_others(connection, catalog)
    for table in kept.tables:
        kept.replace(connection, catalog, table, shadow_of(table))
    pairs = {table: shadow_of(table) for table in to_do.tables if table not in kept.tables}
    catalog.fill(pairs, circular=to_do.is_circular)
    catalog.check_foreign_keys(to_do.tables)


def _restore(connection: Connection, table: Table, statement: str) -> None:
    """Give a table what others had added to the one before; not what no longer fits it."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if is_transient(error):
            raise
        _logger.warning("table %s was recreated without %r: %s", table, statement, cause_of(error))


def _settle(
    connection: Connection, shadow_of: Callable[[Table], Table], projection: Projection
) -> None:
    """Do to the shadow's rows what their foreign keys to tables of others would have done live."""
    for constraint in Declaration(projection).outgoing:
        action = (constraint.ondelete or "").upper()
        if action not in {"CASCADE", "SET NULL", "SET DEFAULT"}:
            continue
        rows = shadow_of(constraint.table)
        columns = [rows.c[element.parent.key] for element in constraint.elements]
        (*schema, name), names = target_of(constraint)
        referred = clause_of(next(iter(schema), None), name, names).alias()
        pairs = zip(names, columns, strict=True)
        targets = [referred.c[name] == column for name, column in pairs]
        lost = and_(*(column.is_not(None) for column in columns))
        lost &= ~select(1).select_from(referred).where(*targets).exists()
        if action == "CASCADE":
            connection.execute(delete(rows).where(lost))
        else:
            instead = {
                column.key: _default(column) if action == "SET DEFAULT" else null()
                for column in columns
            }
            connection.execute(update(rows).where(lost).values(instead))


def _default(column: Column[Any]) -> ClauseElement:
    """The value that the database gives a column by default."""
    default = column.server_default
    if not isinstance(default, DefaultClause):
        return null()
    value = default.arg
    return literal(value, column.type) if isinstance(value, str) else value
