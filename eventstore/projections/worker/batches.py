"""Batches: the changes of many events, arranged so that equal statements go in one.

What takes time is not what a statement does, but that each is sent by itself and waited for. So
each change joins an earlier one of the same statement, as far back as nothing between them has to
do with it: what is in the same scope keeps its order, and a change without a scope keeps its place
among all others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Connection
from sqlalchemy.sql.visitors import iterate

from eventstore.projections.projection import BoundStatement, Change, Statement
from eventstore.projections.worker.commutativity import scope_of

__all__ = ["Batch", "arranged"]


class Batch:
    """A statement, and the values for each time it is to be executed."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._values: list[Mapping[str, Any]] = []

    def add(self, change: Change) -> None:
        """Execute it with these values, too, after all others."""
        if isinstance(change, BoundStatement):
            self._values.append(change.values)

    def execute(self, connection: Connection) -> None:
        """Make these changes, in their order; raises what the database raises for any of them."""
        if len(self._values) > 1:
            connection.execute(self._statement, self._values)
        else:
            connection.execute(self._statement, *self._values)


def arranged(changes: Iterable[Change]) -> list[Batch]:
    """Batches that lead to the same rows, one after the other, as the changes in their order."""
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
        """Into the first batch from there on that it fits into, or else a new one; which."""
        places = self._alike[_shape(change)]
        place = bisect_left(places, earliest)
        if place == len(places):
            statement = change.statement if isinstance(change, BoundStatement) else change
            places.append(len(self.batches))
            self.batches.append(Batch(statement))
        self.batches[places[place]].add(change)
        return places[place]


def _shape(change: Change) -> Hashable:
    """What changes of one batch have in common."""
    if isinstance(change, BoundStatement) and change.values and _is_repeatable(change.statement):
        return change.statement, *change.values
    return object()


@lru_cache(maxsize=1024)
def _is_repeatable(statement: Statement) -> bool:
    """Whether its text is the same for all values; lists of values are written out in it."""
    return not any(
        isinstance(part, BindParameter) and (part.expanding or part.literal_execute)
        for part in iterate(statement)
    )
