"""Batches: the changes of many events, reordered so that equal statements are sent as one.

What costs time is not a statement itself, but the round trip for each. So each change joins an
earlier one with the same statement, as far back as no change between them conflicts with it:
changes of the same scope keep their order, and a change without a scope keeps its place among all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Connection
from sqlalchemy.sql.visitors import iterate

from eventstore.projections.database.prepared import execute
from eventstore.projections.projection import BoundStatement, Change, Statement
from eventstore.projections.worker.commutativity import pin_of


class Batch:
    """A statement, and the values of each of its executions; none if it has no separate values."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self.values: list[Mapping[str, Any]] = []

    def execute(self, connection: Connection) -> None:
        """Execute these changes in their order; raises what the database raises for any of them."""
        if self.values:
            execute(connection, self._statement, self.values)
        else:
            connection.execute(self._statement)


def arranged(changes: Iterable[Change]) -> list[Batch]:
    """Batches that, one after the other, lead to the same rows as the changes in their order."""
    arrangement = _Arrangement()
    for change in changes:
        arrangement.add(change)
    return arrangement.batches


class _Alike:
    """The changes with one statement and equal keys of values: their scopes, and their batches."""

    def __init__(self, change: BoundStatement) -> None:
        self.pin = pin_of(change.statement)
        self.can_join = bool(change.values) and _is_repeatable(change.statement)
        self.batches: list[int] = []

    def first(self, earliest: int) -> int | None:
        """The first batch from `earliest` on that another change may join."""
        own = self.batches
        if not self.can_join or not own or own[-1] < earliest:
            return None
        return own[bisect_left(own, earliest)]


class _Arrangement:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._alike: dict[Hashable, _Alike] = {}
        self._last: dict[Hashable, int] = {}
        self._earliest = 0

    def add(self, change: Change) -> None:
        if not isinstance(change, BoundStatement):
            self._earliest = self._append(change)
            return
        statement, values = change
        shape = (statement, *values)
        alike = self._alike.get(shape)
        if alike is None:
            alike = self._alike[shape] = _Alike(change)
        scope = None if alike.pin is None else alike.pin.scope(values)
        if scope is None:
            self._earliest = self._put(change, alike, len(self.batches) - 1)
        else:
            earliest = max(self._earliest, self._last.get(scope, 0))
            self._last[scope] = self._put(change, alike, earliest)

    def _put(self, change: BoundStatement, alike: _Alike, earliest: int) -> int:
        """Add it to the first fitting batch from `earliest` on, or a new one; returns its index."""
        at = alike.first(earliest)
        if at is None:
            at = self._append(change.statement)
            alike.batches.append(at)
        self.batches[at].values.append(change.values)
        return at

    def _append(self, statement: Statement) -> int:
        self.batches.append(Batch(statement))
        return len(self.batches) - 1


@lru_cache(maxsize=1024)
def _is_repeatable(statement: Statement) -> bool:
    """Whether its SQL is the same for all values; lists of values are expanded in it."""
    return not any(
        isinstance(part, BindParameter) and (part.expanding or part.literal_execute)
        for part in iterate(statement)
    )
