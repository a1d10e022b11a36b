"""The declaration of a projection's tables, and the copies of it that a shadow is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Enum, ForeignKeyConstraint, MetaData, Table
from sqlalchemy.dialects.postgresql.named_types import NamedType
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.schema import sort_tables_and_constraints
from sqlalchemy.types import TypeEngine

from eventstore.projections.projection import Projection


class Declaration:
    """The tables of a projection, in the order of the foreign keys among them.

    `outgoing` are foreign keys to tables of others. A shadow has none of them: other tables are
    not in it, and their rows may be of another position of the log. `is_circular` is whether the
    other foreign keys form a circle.
    """

    def __init__(self, projection: Projection) -> None:
        self.outgoing = [
            constraint
            for table in projection.tables
            for constraint in sorted(table.foreign_key_constraints, key=_columns)
            if not _is_to(constraint, projection.tables)
        ]
        self.copies = self._copies(projection.tables)
        tables = {table.key: table for table in projection.tables}
        *ordered, (_, rest) = sort_tables_and_constraints(  # type: ignore[no-untyped-call]
            self.copies.tables.values()
        )
        self.tables = [tables[table.key] for table, _ in ordered if table is not None]
        to_itself = any(
            constraint.referred_table is table
            for table in self.copies.tables.values()
            for constraint in table.foreign_key_constraints
        )
        self.is_circular = bool(rest) or to_itself

    def schemas(self, dialect: Dialect) -> set[str]:
        """Those that its tables, and the types of their columns, are declared in, if any."""
        named = [table.schema for table in self.tables]
        named += [getattr(each, "schema", None) for each in self._types(dialect)]
        return {schema for schema in named if schema}

    def create_types(self, connection: Any) -> None:
        """Create the types that its columns name, even those that others create live."""
        for type_ in self._types(connection.dialect):
            type_.create(connection)

    def _types(self, dialect: Dialect) -> Iterator[NamedType]:
        for table in self.copies.tables.values():
            for column in table.columns:
                yield from _named(column.type, dialect)

    def _copies(self, tables: tuple[Table, ...]) -> MetaData:
        """The same tables, without their foreign keys to those of others.

        Nor have they partitions, or parents, which rows would be found in, too.
        """
        metadata = MetaData()
        leaving = {id(constraint) for constraint in self.outgoing}
        for table in tables:
            copy = table.to_metadata(metadata)
            kept = {
                _columns(each) for each in table.foreign_key_constraints if id(each) not in leaving
            }
            for constraint in copy.foreign_key_constraints:
                if _columns(constraint) not in kept:
                    _remove(copy, constraint)
            for option in ("partition_by", "inherits"):
                copy.dialect_options["postgresql"][option] = None
            for column, original in zip(copy.columns, table.columns, strict=True):
                if isinstance(column.type, Enum) and isinstance(original.type, Enum):
                    column.type.schema = original.type.schema  # and not that of the table
        return metadata


def _columns(constraint: ForeignKeyConstraint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(constraint.column_keys),
        tuple(element.target_fullname for element in constraint.elements),
    )


def _is_to(constraint: ForeignKeyConstraint, tables: tuple[Table, ...]) -> bool:
    try:
        return constraint.referred_table in tables
    except NoReferenceError:  # a table that is not declared, and may be there all the same
        return False


def _remove(table: Table, constraint: ForeignKeyConstraint) -> None:
    table.constraints.discard(constraint)
    for element in constraint.elements:
        table.foreign_keys.discard(element)
        element.parent.foreign_keys.discard(element)


def _named(type_: TypeEngine[Any], dialect: Dialect) -> Iterator[NamedType]:
    """The enumerations and domains of a column's type, whatever it is wrapped in."""
    found = type_.dialect_impl(dialect)
    for inner in (getattr(found, "impl_instance", None), getattr(found, "item_type", None)):
        if isinstance(inner, TypeEngine):
            yield from _named(inner, dialect)
    if isinstance(found, NamedType):
        yield found
