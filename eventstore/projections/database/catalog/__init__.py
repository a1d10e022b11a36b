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
from eventstore.projections.database.catalog.postgresql import PostgresqlCatalog
from eventstore.projections.database.catalog.sqlite import SqliteCatalog

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
    kind = PostgresqlCatalog if connection.dialect.name == "postgresql" else SqliteCatalog
    return kind(connection)
