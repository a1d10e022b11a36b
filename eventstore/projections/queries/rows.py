"""Rows: what the handler of a query reads in one transaction, as typed answers."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Integer,
    Join,
    Row,
    Select,
    and_,
    false,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.sql.visitors import iterate

from eventstore.errors import QueryNotFound
from eventstore.messages.queries import Listed, ListQuery, Query
from eventstore.projections.database.prepared import fetch
from eventstore.projections.queries import cursor

A = TypeVar("A")
I = TypeVar("I")  # noqa: E741  # an item of a list
T = TypeVar("T")

Values = Mapping[str, Any]


class Rows:
    """Reads in one transaction, so that all results are of the same snapshot.

    A statement that is built once, with `bindparam`s, takes a small part of the time of one that
    each call builds; `values` are those of its parameters.

    A row becomes a struct by its columns' names; columns that the struct does not have are left
    out. Raises SQLAlchemy's errors, and msgspec's if a row does not fit.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def one(
        self, query: Query[A], statement: Select[Any], what: str, values: Values | None = None
    ) -> A:
        """The answer to a query from its only row; `what` describes it for `QueryNotFound`."""
        found = self.all(statement, type(query).__answer__, values)
        if not found:
            raise QueryNotFound(f"there is no {what}")
        answer: A = found[0]
        return answer

    def first(self, statement: Select[Any], values: Values | None = None) -> Row[Any] | None:
        """The first row; None if there is none."""
        return self._connection.execute(statement, values).first()

    def count(self, statement: Select[Any]) -> int:
        """The number of rows."""
        counting = select(func.count()).select_from(statement.subquery())
        return self._connection.execute(counting).scalar_one()

    def all(self, statement: Select[Any], kind: type[T], values: Values | None = None) -> list[T]:
        """All rows; for statements that select few."""
        names, rows = fetch(self._connection, statement, values or {})
        return _structs(names, _with_integers(statement, rows), kind)

    def page(
        self, query: ListQuery[I], statement: Select[Any], by: Sequence[ColumnElement[Any]]
    ) -> Listed[I]:
        """The page of a list that a query asks for, sorted by the columns `by`.

        `statement` selects the list, with its filters, and these columns; together they must be
        unique. Nulls come last. With an index that begins with the columns, every page costs the
        same, if none of them can be null. Raises `InvalidPayload` for a bad cursor.
        """
        nullable = _nullable(statement, by)
        if query.after is not None:
            values = cursor.decode(query, by, cursor.types(by, nullable))
            statement = statement.where(*_after(by, nullable, values))
        pairs = zip(by, nullable, strict=True)
        order = [each.nulls_last() if null else each for each, null in pairs]
        # One more than is requested, to know whether there are more.
        ordered = statement.order_by(*order).limit(query.limit + 1)
        result = self._connection.execute(ordered)
        names, rows = result.keys(), result.all()
        (kind,) = typing.get_args(type(query).__answer__)
        items = _structs(names, _with_integers(statement, rows[: query.limit]), kind)
        if len(rows) <= query.limit:
            return Listed(items=items)
        last = rows[query.limit - 1]._mapping
        return Listed(items=items, next=cursor.encode(query, by, [last[column] for column in by]))


def _nullable(statement: Select[Any], by: Sequence[ColumnElement[Any]]) -> list[bool]:
    """Which of the columns can be null, by their tables, or as there is an outer join."""
    if _has_outer_join(statement):
        return [True] * len(by)
    return [any(map(_is_nullable, iterate(each))) for each in by]


def _is_nullable(part: object) -> bool:
    """Whether a part of an expression is a column that can be null, or that may be anything."""
    return isinstance(part, ColumnClause) and getattr(part, "nullable", True)


def _has_outer_join(statement: Select[Any]) -> bool:
    # SQLAlchemy tells the joins of `select().join()` only by compiling the statement.
    joined = any(flags["isouter"] or flags["full"] for *_, flags in statement._setup_joins)
    return joined or any(
        isinstance(part, Join) and (part.isouter or part.full) for part in iterate(statement)
    )


def _after(
    by: Sequence[ColumnElement[Any]], nullable: Sequence[bool], values: Sequence[Any]
) -> list[ColumnElement[bool]]:
    if any(nullable):
        return [_after_with_nulls(by, nullable, values)]
    if len(by) == 1:
        return [by[0] > values[0]]
    # The second follows from the first, but SQLite uses only one of them to seek in an index: with
    # the first alone, it would seek by a filter that is a range of the same column.
    return [tuple_(*by) > tuple_(*values), by[0] >= values[0]]


def _after_with_nulls(
    by: Sequence[ColumnElement[Any]], nullable: Sequence[bool], values: Sequence[Any]
) -> ColumnElement[bool]:
    """Equal in some columns, and greater in the next; null is greater than every value."""
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for column, null, value in zip(by, nullable, values, strict=True):
        if value is not None:
            greater = or_(column > value, column.is_(None)) if null else column > value
            alternatives.append(and_(*equal, greater))
        equal.append(column.is_(None) if value is None else column == value)
    return or_(false(), *alternatives)


def _with_integers(
    statement: Select[Any], rows: Sequence[Sequence[Any]]
) -> Sequence[Sequence[Any]]:
    """The rows with integers where the statement has them.

    PostgreSQL sums big integers as decimals, which msgspec does not take for an integer.
    """
    if Decimal not in map(type, chain.from_iterable(rows)):
        return rows
    is_integer = [isinstance(each.type, Integer) for each in statement.selected_columns]
    return [
        [
            int(value) if own and type(value) is Decimal else value
            for own, value in zip(is_integer, row, strict=True)
        ]
        for row in rows
    ]


def _structs(names: Iterable[str], rows: Sequence[Sequence[Any]], kind: Any) -> list[Any]:
    # SQLAlchemy's names are of a subclass of str, which msgspec does not accept.
    own = [str(name) for name in names]
    items = [dict(zip(own, row, strict=True)) for row in rows]
    found: list[Any] = msgspec.convert(items, list[kind])
    return found
