"""Generated keys in PostgreSQL: sequences that are moved past the keys of copied rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    Connection,
    Sequence,
    Table,
    TableClause,
    case,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import REGCLASS

_sequences = TableClause(
    "pg_sequence", *map(ColumnClause, ("seqrelid", "seqincrement", "seqmin", "seqmax"))
)


def advance_keys(connection: Connection, table: Table) -> None:
    """Move the sequences of a table past the keys in its rows, which need not come from them."""
    for column in table.columns:
        if column is table.autoincrement_column or column.identity or _sequence(column):
            _advance(connection, table, column)


def _advance(connection: Connection, table: Table, column: Column[Any]) -> None:
    """Never backwards, for a transaction that fails rolls back its rows, but not this."""
    own = _sequence(column)
    preparer = connection.dialect.identifier_preparer
    name = (
        func.pg_get_serial_sequence(preparer.format_table(table), column.name)
        if own is None
        else preparer.format_sequence(own)
    )
    known = _sequences.c
    last = func.pg_sequence_last_value(known.seqrelid)
    up = func.greatest(select(func.max(column)).scalar_subquery(), last)
    down = func.least(select(func.min(column)).scalar_subquery(), last)
    reached = cast(case((known.seqincrement > 0, up), else_=down), BigInteger)
    # There is no sequence if others make the keys, and keys beyond its bounds are not its own.
    connection.execute(
        select(func.setval(cast(known.seqrelid, REGCLASS), reached)).where(
            known.seqrelid == func.to_regclass(name), reached.between(known.seqmin, known.seqmax)
        )
    )


def _sequence(column: Column[Any]) -> Sequence | None:
    """The sequence that a column names, if it does not own one."""
    return column.default if isinstance(column.default, Sequence) else None
