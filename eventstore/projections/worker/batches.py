"""Batches: the changes of many events, reordered so that equal statements are sent as one.

What costs time is not a statement itself, but the round trip for each. So each change joins an
earlier one with the same statement, as far back as no change between them conflicts with it:
changes of the same scope keep their order if their effects conflict, and a change without a scope
keeps its place among all.
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
from eventstore.projections.worker.effects import effects_of
from eventstore.projections.worker.overwriting import last_of_each


class Batch:
    """A statement, and the values of each of its executions; none if it has no separate values."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self.values: list[Mapping[str, Any]] = []

    def execute(self, connection: Connection) -> None:
        """Execute these changes in their order; raises what the database raises for any of them."""
        if self.values:
            execute(connection, self._statement, last_of_each(self._statement, self.values))
        else:
            connection.execute(self._statement)


def arranged(changes: Iterable[Change]) -> list[Batch]:
    """Batches that, one after the other, lead to the same rows as the changes in their order."""
    arrangement = _Arrangement()
    for change in changes:
        arrangement.add(change)
    return arrangement.batches


class _Alike:
    """The changes with one statement and equal keys of values.

    `batches` are the indexes of theirs, `last` is that of the last one in each scope, and
    `conflicting` are those whose order among these matters within a scope.
    """

    def __init__(self, change: BoundStatement, others: Iterable[_Alike]) -> None:
        statement, values = change
        self.pin = pin_of(statement)
        self.can_join = bool(values) and _is_repeatable(statement)
        self.batches: list[int] = []
        self.last: dict[str | int, int] = {}
        self.conflicting = [self]
        self._effects = None if self.pin is None else effects_of(statement, tuple(values))
        for other in others:
            if self._conflicts(other):
                self.conflicting.append(other)
                other.conflicting.append(self)

    def _conflicts(self, other: _Alike) -> bool:
        if self.pin is None or other.pin is None or self.pin.root is not other.pin.root:
            return False
        own, theirs = self._effects, other._effects
        return own is None or theirs is None or own.conflict(theirs)


class _Arrangement:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._alike: dict[Hashable, _Alike] = {}
        self._earliest = 0

    def add(self, change: Change) -> None:
        if not isinstance(change, BoundStatement):
            self._earliest = self._append(change)
            return
        statement, values = change
        shape = (statement, *values)
        alike = self._alike.get(shape)
        if alike is None:
            alike = self._alike[shape] = _Alike(change, self._alike.values())
        key = None if alike.pin is None else alike.pin.key(values)
        if key is None:
            self._earliest = self._put(change, alike, len(self.batches) - 1)
            return
        earliest = self._earliest
        for other in alike.conflicting:
            if (at := other.last.get(key, 0)) > earliest:
                earliest = at
        alike.last[key] = self._put(change, alike, earliest)

    def _put(self, change: BoundStatement, alike: _Alike, earliest: int) -> int:
        """Add it to the first fitting batch from `earliest` on, or a new one; returns its index."""
        own = alike.batches
        if alike.can_join and own and own[-1] >= earliest:
            at = own[0] if own[0] >= earliest else own[bisect_left(own, earliest)]
        else:
            at = self._append(change.statement)
            own.append(at)
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
