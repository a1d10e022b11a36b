"""What the handler of a query sees: the rows of one read transaction, as typed answers."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, tuple_

from eventstore.errors import QueryNotFound
from eventstore.messages.queries import Listed, ListQuery, Query
from eventstore.projections.queries import cursor

__all__ = ["Rows"]

A = TypeVar("A")
I = TypeVar("I")  # noqa: E741  # an item of a list
T = TypeVar("T")


class Rows:
    """Reads in one transaction, so that all it returns is of the same state.

    A row becomes a struct by its columns' names; columns that the struct does not have are left
    out. Raises SQLAlchemy's errors, and msgspec's where a row does not fit.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def one(self, query: Query[A], statement: Select[Any], what: str) -> A:
        """The answer to a query by the only row there is; `what` names it for `QueryNotFound`."""
        found = self.all(statement, type(query).__answer__)
        if not found:
            raise QueryNotFound(f"there is no {what}")
        answer: A = found[0]
        return answer

    def first(self, statement: Select[Any]) -> Row[Any] | None:
        """The first row; None where there is none."""
        return self._connection.execute(statement).first()

    def count(self, statement: Select[Any]) -> int:
        """How many rows there are."""
        counting = select(func.count()).select_from(statement.subquery())
        return self._connection.execute(counting).scalar_one()

    def all(self, statement: Select[Any], kind: type[T]) -> list[T]:
        """All rows; for a number of them that is known to be small."""
        return _structs(self._connection.execute(statement).all(), kind)

    def page(
        self, query: ListQuery[I], statement: Select[Any], by: Sequence[ColumnElement[Any]]
    ) -> Listed[I]:
        """The part of a list that a query asks for, sorted by the columns `by`.

        `statement` selects the list, with its filters, and these columns; together they must be
        different for every row, and none may be null. An index that begins with them makes every
        part cost the same, however far behind it is. Raises `InvalidPayload` for a bad cursor.
        """
        if query.after is not None:
            statement = statement.where(*_behind(by, cursor.decode(query, by, cursor.types(by))))
        # One more than is asked for, to know whether there is more.
        ordered = statement.order_by(*by).limit(query.limit + 1)
        rows = self._connection.execute(ordered).all()
        (kind,) = typing.get_args(type(query).__answer__)
        items = _structs(rows[: query.limit], kind)
        if len(rows) <= query.limit:
            return Listed(items=items)
        last = rows[query.limit - 1]._mapping
        return Listed(items=items, next=cursor.encode(query, by, [last[column] for column in by]))


def _behind(by: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> list[ColumnElement[bool]]:
    if len(by) == 1:
        return [by[0] > values[0]]
    # The second follows from the first, but SQLite only sees where to begin in an index by one of
    # them: by the first alone it would begin anew, where a filter is a range of the same column.
    return [tuple_(*by) > tuple_(*values), by[0] >= values[0]]


def _structs(rows: Sequence[Row[Any]], kind: Any) -> list[Any]:
    if not rows:
        return []
    # SQLAlchemy's names are strings of a kind of their own, which msgspec does not take.
    names = [str(name) for name in rows[0]._fields]
    return [msgspec.convert(dict(zip(names, row, strict=True)), kind) for row in rows]
