"""The revisions that a database records, read without Alembic, which logs two lines each time."""

from __future__ import annotations

from sqlalchemy import Connection, column, inspect, select, table


def recorded_revisions(connection: Connection, version_table: str) -> tuple[str, ...]:
    """The revisions in Alembic's table; none if there is no such table."""
    if not inspect(connection).has_table(version_table):
        return ()
    return tuple(
        connection.scalars(select(column("version_num")).select_from(table(version_table)))
    )
