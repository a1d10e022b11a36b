"""The indexes that projections have declared, recorded, so that those that they drop are known.

An index that is not declared may be a user's own, and stays, unless it was declared before. All
functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from eventstore.projections.database.catalog import declared_indexes
from eventstore.projections.database.tables import declared_index as table
from eventstore.projections.projection import Projection


def indexes_of(connection: Connection, projection: Projection) -> Mapping[str, set[str]]:
    """The names of those that it declares, or did since its rows were built, by table.

    That is the full name of the table, and the index's name in the database.
    """
    found = _declared(connection, projection)
    for row in connection.execute(select(table).where(table.c.projection == projection.name)):
        found.setdefault(row.table, set()).add(row.name)
    return found


def note(connection: Connection, projection: Projection) -> None:
    """Record those that it declares, beside those that are recorded."""
    _record(connection, projection, indexes_of(connection, projection))


def replace(connection: Connection, projection: Projection) -> None:
    """Record those that it declares, for all others were dropped."""
    _record(connection, projection, _declared(connection, projection))


def _record(
    connection: Connection, projection: Projection, indexes: Mapping[str, set[str]]
) -> None:
    values = [
        {"projection": projection.name, "table": full_name, "name": name}
        for full_name, names in indexes.items()
        for name in sorted(names)
    ]
    connection.execute(delete(table).where(table.c.projection == projection.name))
    if values:
        connection.execute(insert(table), values)


def _declared(connection: Connection, projection: Projection) -> dict[str, set[str]]:
    return {each.fullname: set(declared_indexes(connection, each)) for each in projection.tables}
