"""Batches: the changes of many events, reordered so that equal statements are sent as one.

What costs time is not a statement itself, but the round trip for each. So each change joins an
earlier one with the same statement, as far back as no change between them conflicts with it:
changes of the same scope keep their order, and a change without a scope keeps its place among all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Connection
from sqlalchemy.sql.visitors import iterate

from eventstore.projections.database.prepared import execute
from eventstore.projections.projection import BoundStatement, Change, Statement
from eventstore.projections.worker.commutativity import scope_of


class Batch:
    """A statement, and the values of each of its executions."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._values: list[Mapping[str, Any]] = []

    def add(self, change: Change) -> None:
        """Execute it with these values, too, after the others."""
        if isinstance(change, BoundStatement):
            self._values.append(change.values)

    def execute(self, connection: Connection) -> None:
        """Execute these changes in their order; raises what the database raises for any of them."""
        if self._values:
            execute(connection, self._statement, self._values)
        else:
            connection.execute(self._statement)


def arranged(changes: Iterable[Change]) -> list[Batch]:
    """Batches that, one after the other, lead to the same rows as the changes in their order."""
    arrangement = _Arrangement()
    for change in changes:
        arrangement.add(change)
    return arrangement.batches


class _Arrangement:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._alike: dict[Hashable, list[int]] = defaultdict(list)
        self._last: dict[Hashable, int] = {}
        self._earliest = 0

    def add(self, change: Change) -> None:
        scope = scope_of(change) if isinstance(change, BoundStatement) else None
        if scope is None:
            self._earliest = self._put(change, len(self.batches) - 1)
        else:
            earliest = max(self._earliest, self._last.get(scope, 0))
            self._last[scope] = self._put(change, earliest)

    def _put(self, change: Change, earliest: int) -> int:
        """Add it to the first fitting batch from `earliest` on, or a new one; returns its index."""
        indexes = self._alike[_shape(change)]
        at = bisect_left(indexes, earliest)
        if at == len(indexes):
            statement = change.statement if isinstance(change, BoundStatement) else change
            indexes.append(len(self.batches))
            self.batches.append(Batch(statement))
        self.batches[indexes[at]].add(change)
        return indexes[at]


def _shape(change: Change) -> Hashable:
    if isinstance(change, BoundStatement) and change.values and _is_repeatable(change.statement):
        return change.statement, *change.values
    return object()


@lru_cache(maxsize=1024)
def _is_repeatable(statement: Statement) -> bool:
    """Whether its SQL is the same for all values; lists of values are expanded in it."""
    return not any(
        isinstance(part, BindParameter) and (part.expanding or part.literal_execute)
        for part in iterate(statement)
    )
