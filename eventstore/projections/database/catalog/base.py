"""The interface of a catalog, and the definition of a table as the database itself reports it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKeyConstraint,
    Index,
    Table,
    TableClause,
    inspect,
)
from sqlalchemy import column as column_clause
from sqlalchemy import table as table_clause
from sqlalchemy.exc import NoReferenceError


class TableDefinition(NamedTuple):
    """A table, in a form that is equal for equal tables, wherever each is.

    The order of the columns does not count. `constraints` are its keys, checks and foreign keys;
    those to tables that are not read with it are in `outgoing`. `indexes` are all others, by name.
    """

    columns: Mapping[str, object]
    constraints: frozenset[object]
    outgoing: frozenset[object]
    indexes: Mapping[str, str]

    def is_like(self, other: TableDefinition) -> bool:
        """Whether both are the same, apart from their indexes."""
        return self[:3] == other[:3]


class Reference(NamedTuple):
    """A foreign key to one of the tables that were asked for.

    `pairs` are the names of its columns, and of those that they refer to.
    """

    child: TableClause
    to: Table
    pairs: tuple[tuple[str, str], ...]


class Catalog(ABC):
    """Reads the catalog inside the caller's transaction, and changes tables in it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._preparer = connection.dialect.identifier_preparer

    @abstractmethod
    def definitions(
        self, tables: Sequence[Table], outgoing: Sequence[Sequence[ForeignKeyConstraint]] = ()
    ) -> list[TableDefinition | None]:
        """The definitions of tables; None for one that does not exist.

        `outgoing` are, for each table, declared foreign keys that count as if they were there.
        """

    @abstractmethod
    def references(self, tables: Sequence[Table]) -> list[Reference]:
        """The foreign keys of other tables to these."""

    @abstractmethod
    def reacting(self, tables: Sequence[Table]) -> list[str]:
        """What does something else when rows of these tables change: triggers and rules."""

    @abstractmethod
    def dependents(self, tables: Sequence[Table], shadows: Sequence[Table]) -> list[str]:
        """What would break if these tables were replaced by others that are like `shadows`."""

    def heirs(self, tables: Sequence[Table]) -> list[str]:
        """The tables of others whose rows are among those of these tables."""
        return []

    def alien(self, tables: Sequence[Table]) -> list[str]:
        """Which of these tables the user of the connection may not drop and create."""
        return []

    @abstractmethod
    def belongings(self, table: Table, declared: Iterable[str]) -> list[str]:
        """The statements that give a new table what others added to this one.

        That is indexes, except the `declared` ones, privileges, and settings of the table.
        """

    @abstractmethod
    def recreate(self, tables: Sequence[Table], shadows: Sequence[Table]) -> None:
        """Drop tables and create them as they are declared, empty.

        So it does with their types that differ from those of `shadows`.
        """

    @abstractmethod
    def empty(self, tables: Sequence[Table], *, circular: bool) -> None:
        """Delete all rows of tables; those that refer to others come last.

        `circular` is whether their foreign keys form a circle.
        """

    @abstractmethod
    def fill(self, tables: Mapping[Table, Table], *, circular: bool) -> None:
        """Copy all rows of the second of each pair into the first, which is empty."""

    @abstractmethod
    def values(self, table: Table, source: Table) -> Iterable[ColumnElement[Any]]:
        """The columns of a source, as values of the `stored` columns of a table."""

    def check_foreign_keys(self, tables: Sequence[Table]) -> None:  # noqa: B027
        """Raise `IntegrityError` for what is not checked by each statement; from now on it is."""

    def lock(self, table: Table) -> None:  # noqa: B027  # SQLite has one writer
        """Keep others from referring to rows of a table until the end of the transaction."""

    def reference_name(self, reference: Reference) -> str:
        """The name of the table that refers to another."""
        return self._preparer.format_table(reference.child)

    def drop_index(self, table: Table, name: str) -> None:
        """Drop an index of a table."""
        schema = f"{self._preparer.quote_schema(table.schema)}." if table.schema else ""
        self.execute(f"DROP INDEX {schema}{self._preparer.quote(name)}")

    def execute(self, statement: str) -> None:
        """Execute a statement that has no parameters, whatever characters it has."""
        self.connection.exec_driver_sql(statement)

    def name(self, table: Table) -> str:
        """The name of a table, quoted where it needs to be."""
        return self._preparer.format_table(table)


def are_there(connection: Connection, tables: Iterable[Table]) -> bool:
    """Whether all of these tables exist, however they are defined."""
    catalog, schema_of = inspect(connection), connection.schema_for_object
    return all(catalog.has_table(each.name, schema=schema_of(each)) for each in tables)


def create(connection: Connection, tables: Sequence[Table]) -> None:
    """Create the tables that are missing, with their indexes and types."""
    for metadata in {table.metadata for table in tables}:
        own = [table for table in tables if table.metadata is metadata]
        metadata.create_all(connection, tables=own)


def declared_indexes(connection: Connection, table: Table) -> dict[str, Index]:
    """The indexes that a table is declared with, by their names in the database."""
    preparer = connection.dialect.identifier_preparer
    return {
        preparer.unformat_identifiers(preparer.format_index(index))[0]: index
        for index in table.indexes
    }


def clause_of(schema: str | None, name: str, columns: Iterable[str]) -> TableClause:
    """A table that is not declared, with some of its columns."""
    return table_clause(name, *map(column_clause, columns), schema=schema)


def stored(table: Table) -> list[Column[Any]]:
    """The columns that have values of their own, and are not computed from others."""
    return [column for column in table.columns if column.computed is None]


def target_of(constraint: ForeignKeyConstraint) -> tuple[list[str], list[str]]:
    """The table that a foreign key refers to, as its schema, if any, and name; and the columns."""
    try:
        table = constraint.referred_table
        columns = [element.column.name for element in constraint.elements]
    except NoReferenceError:  # a table that is not declared, and is there all the same
        targets = [element.target_fullname.split(".") for element in constraint.elements]
        return targets[0][:-1], [target[-1] for target in targets]
    return [each for each in (table.schema, table.name) if each is not None], columns
