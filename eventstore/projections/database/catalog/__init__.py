"""The catalog of a database: how its tables are defined, and what else there is that uses them."""

from __future__ import annotations

from sqlalchemy import Connection

from eventstore.projections.database.catalog.base import (
    Catalog,
    Reference,
    TableDefinition,
    are_there,
    clause_of,
    create,
    declared_indexes,
    stored,
    target_of,
)

__all__ = [
    "Catalog",
    "Reference",
    "TableDefinition",
    "are_there",
    "catalog_of",
    "clause_of",
    "create",
    "declared_indexes",
    "stored",
    "target_of",
]


def catalog_of(connection: Connection) -> Catalog:
    """The catalog of the database that is connected to, as its transaction sees it."""
    if connection.dialect.name == "postgresql":
        from eventstore.projections.database.catalog.postgresql import PostgresqlCatalog

        return PostgresqlCatalog(connection)
    from eventstore.projections.database.catalog.sqlite import SqliteCatalog

    return SqliteCatalog(connection)
