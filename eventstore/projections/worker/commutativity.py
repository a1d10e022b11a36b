"""The scope of a change: the rows that are all it reads and writes, if its tables prove it.

Two changes of different scopes commute: the rows do not depend on their order. A scope is one value
of a column that partitions the rows of a table: each unique key contains it, and foreign keys refer
by it to the partitioning column of the other table. In the end it is the column of a root table:
the inputs of a flake are in the scope of their flake's id.

A change that is not proven to be harmless has no scope: with sequences and other defaults that
depend on the order, cascades, collations, subqueries, functions, upserts.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    CheckConstraint,
    Column,
    ColumnElement,
    DefaultClause,
    Delete,
    ForeignKeyConstraint,
    Insert,
    PrimaryKeyConstraint,
    Select,
    Table,
    TypeDecorator,
    UniqueConstraint,
    Update,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import False_, True_
from sqlalchemy.sql.visitors import ExternallyTraversible, iterate
from sqlalchemy.types import TypeEngine

from eventstore.projections.projection import BoundStatement, Statement

DIALECTS: tuple[Dialect, ...] = (sqlite.dialect(), postgresql.dialect())  # type: ignore[no-untyped-call]

# Two values of these that differ in Python differ in every database.
_KINDS: dict[str, type] = {
    "VARCHAR": str,
    "TEXT": str,
    "SMALLINT": int,
    "INTEGER": int,
    "BIGINT": int,
}

_HARMLESS = {
    *("column", "bindparam", "null", "true", "false", "typeclause"),
    *("binary", "unary", "clauselist", "grouping", "label", "cast"),
}
"""The parts of an expression that are neither functions nor queries."""

_CONSTRAINTS = (PrimaryKeyConstraint, UniqueConstraint, ForeignKeyConstraint, CheckConstraint)


def scope_of(change: BoundStatement) -> Hashable | None:
    """The scope of a change; None if it is not proven to have one."""
    pin = pin_of(change.statement)
    return None if pin is None else pin.scope(change.values)


class Pin(NamedTuple):
    """The parameter whose value is the scope; a change that sets the column `fixed` has none."""

    root: Column[Any]
    kind: type
    parameter: str
    fixed: str | None = None

    def scope(self, values: Mapping[str, Any]) -> Hashable | None:
        """The scope of a change with these values; None if it is not proven to have one."""
        key = self.key(values)
        return None if key is None else (self.root, key)

    def key(self, values: Mapping[str, Any]) -> str | int | None:
        """What distinguishes the scope from others of the same root; None if it has no scope."""
        _, kind, parameter, fixed = self
        if type(values.get(parameter)) is not kind or fixed in values:
            return None
        key: str | int = values[parameter]
        # PostgreSQL is given U+FFFD instead of NUL.
        return key.replace("\0", "\ufffd") if isinstance(key, str) else key


@lru_cache(maxsize=1024)
def pin_of(statement: Statement) -> Pin | None:
    """What the scope of a change by this statement is; None if none is proven."""
    try:
        return _proven(statement)
    except (SQLAlchemyError, RecursionError):
        # A type of another database, a table that is not known, or tables that refer in a circle.
        return None


def _proven(statement: Statement) -> Pin | None:
    table = statement.table
    key = _key(table) if isinstance(table, Table) else None
    kind = None if key is None else kind_of(key.type)
    if key is None or kind is None:
        return None
    if isinstance(statement, Insert):
        parameter, fixed = _inserted(statement, key), None
    else:
        parameter, fixed = _changed(statement, key), key.key
    return None if parameter is None else Pin(_root(key), kind, parameter, fixed)


# Each of these rebuilds the statement from the parts that it has examined, and compares the two:
# so the statement has no other parts.


def _inserted(statement: Insert, key: Column[Any]) -> str | None:
    """The parameter that sets the key of new rows."""
    table = key.table
    if statement.compare(insert(table)):
        return key.key
    query, names = statement.select, statement._select_names or []
    if not isinstance(query, Select) or key.key not in names:
        return None
    if not statement.compare(insert(table).from_select(names, query)):
        return None
    return _copied(query, query.selected_columns[names.index(key.key)], _root(key))


def _copied(query: Select[Any], given: ColumnElement[Any], root: Column[Any]) -> str | None:
    """The parameter that selects the row of one table to copy, and with it the key `given`."""
    (table, *others), where = query.get_final_froms(), query._where_criteria
    if others or not isinstance(table, Table):
        return None
    key, columns = _key(table), list(query.selected_columns)
    if key is None or given is not key or _root(key) is not root:
        return None
    if not query.compare(select(*columns).where(*where)):
        return None
    return _equated(where, key) if _is_harmless(table, *columns, *where) else None


def _changed(statement: Update | Delete, key: Column[Any]) -> str | None:
    """The parameter that selects the rows to change."""
    table, values, where = key.table, {}, statement._where_criteria
    alike: Update | Delete = delete(table)
    if isinstance(statement, Update):
        values = dict(statement._values or {})
        alike = update(table).values(values) if values else update(table)
    if not statement.compare(alike.where(*where)) or key in values or key.key in values:
        return None
    return _equated(where, key) if _is_harmless(table, *where, *values.values()) else None


def _is_harmless(table: Table, *parts: ExternallyTraversible) -> bool:
    """Whether these depend on nothing but the values of one row of a table."""
    return all(
        each.__visit_name__ in _HARMLESS
        and (each.__visit_name__ != "column" or getattr(each, "table", None) is table)
        for part in parts
        for each in iterate(part)
    )


def _equated(where: Iterable[ColumnElement[Any]], key: Column[Any]) -> str | None:
    """The parameter that the key must be equal to."""
    for each in where:
        if isinstance(each, BinaryExpression) and each.operator is operators.eq:
            for column, value in ((each.left, each.right), (each.right, each.left)):
                if column is key and isinstance(value, BindParameter):
                    return value.key if kind_of(value.type) is kind_of(key.type) else None
    return None


@lru_cache(maxsize=1024)
def _key(table: Table) -> Column[Any] | None:
    """The column that partitions the rows of a table, if there is one."""
    if not all(map(_is_constant, table.columns)) or _cascades(table):
        return None
    return next((each for each in table.primary_key.columns if _partitions(each)), None)


def _partitions(column: Column[Any]) -> bool:
    """Whether rows with different values in this column are independent of each other."""
    table = column.table
    automatic = table.autoincrement_column
    return (
        kind_of(column.type) is not None
        and (automatic is None or automatic is column)
        and all(isinstance(each, _CONSTRAINTS) for each in table.constraints)
        and all(any(each is column for each in unique) for unique in _unique_keys(table))
        and len(table.foreign_key_constraints) <= 1
        and all(_refers(column, each) for each in table.foreign_key_constraints)
    )


def _unique_keys(table: Table) -> Iterator[list[Any]]:
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield list(constraint.columns)
    for index in table.indexes:
        if index.unique:
            yield list(index.expressions)


def _refers(column: Column[Any], constraint: ForeignKeyConstraint) -> bool:
    """Whether rows refer by this column to the column that partitions the other table."""
    return any(
        each.parent is column
        and each.column is _key(constraint.referred_table)
        and kind_of(each.column.type) is kind_of(column.type)
        for each in constraint.elements
    )


def _root(key: Column[Any]) -> Column[Any]:
    return next((_root(each.column) for each in key.foreign_keys), key)


def kind_of(values: TypeEngine[Any]) -> type | None:
    """The Python type of values, if different ones are different in each database."""
    if isinstance(values, TypeDecorator) or getattr(values, "collation", None) is not None:
        return None
    (kind, *others) = {_KINDS.get(values.compile(each).partition("(")[0]) for each in DIALECTS}
    return None if others else kind


def _is_constant(column: Column[Any]) -> bool:
    """Whether its default value, if any, is constant."""
    by_server = column.server_default
    literal = by_server.arg if isinstance(by_server, DefaultClause) else by_server
    return (
        all(each is None or each.is_scalar for each in (column.default, column.onupdate))
        and column.server_onupdate is None
        and isinstance(literal, str | True_ | False_ | None)
    )


def _cascades(table: Table) -> bool:
    """Whether changes of this table's rows cascade to rows of other tables."""
    return any(
        each.target_fullname.rpartition(".")[0] == table.fullname
        for other in table.metadata.tables.values()
        for constraint in other.foreign_key_constraints
        if constraint.ondelete or constraint.onupdate
        for each in constraint.elements
    )
