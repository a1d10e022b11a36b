"""Overwriting: of several updates of one row, only the last is executed, if nobody could tell.

That is so for updates by one statement, of which each sets the same columns to values, in rows that
are selected by other columns: the last one overwrites all that the others did. And these must not
be able to fail, lest an event that a database refuses goes unnoticed: no constraint depends on the
columns, and each value is one that its column takes in every database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Column, Update
from sqlalchemy.types import TypeEngine

from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.projection import Statement
from eventstore.projections.worker.commutativity import DIALECTS, kind_of, pin_of
from eventstore.projections.worker.effects import effects_of, written

Values = Mapping[str, Any]
Rule = Callable[[Sequence[Any]], bool]
"""Whether a column takes all of these values."""

_BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}


class _Overwriting(NamedTuple):
    """The parameter that selects the rows, and rules for its values and for those that are set."""

    parameter: str
    rule: Rule
    rules: tuple[tuple[str, Rule], ...]


def last_of_each(statement: Statement, rows: Sequence[Values]) -> Sequence[Values]:
    """The values of executions with equal keys, without those that later ones overwrite."""
    found = _overwriting(statement, tuple(rows[0])) if len(rows) > 1 else None
    if found is None:
        return rows
    keys = list(map(itemgetter(found.parameter), rows))
    if not found.rule(keys):
        return rows
    last = dict(zip(keys, count(), strict=False))
    if len(last) == len(rows) or not all(
        rule(list(map(itemgetter(name), rows))) for name, rule in found.rules
    ):
        return rows
    return [rows[at] for at in sorted(last.values())]


@lru_cache(maxsize=1024)
def _overwriting(statement: Statement, keys: tuple[str, ...]) -> _Overwriting | None:
    """How updates by a statement overwrite each other; None if they are not proven to."""
    pin = pin_of(statement)
    if pin is None or not isinstance(statement, Update) or statement._values:
        return None
    table, own = pin.root.table, written(statement, keys)
    reads, writes = effects_of(statement, keys)
    if table is not statement.table or (table, None) in writes or not reads.isdisjoint(writes):
        return None
    if not own or {*keys} != {*own, pin.parameter}:
        return None
    key = _rule_of(pin.root.type)
    rules = {name: _rule(table.columns[name]) for name in own}
    proven = {name: rule for name, rule in rules.items() if rule is not None}
    if key is None or len(proven) < len(own):
        return None
    return _Overwriting(pin.parameter, key, tuple(proven.items()))


def _rule(column: Column[Any]) -> Rule | None:
    """The rule for what a column is set to; None if there is none for its type."""
    rule = _rule_of(column.type)
    return partial(_or_null, rule) if rule is not None and column.nullable else rule


def _rule_of(values: TypeEngine[Any]) -> Rule | None:
    if type(values) is UtcDateTime:
        return _are_times
    if type(values) is Boolean:
        return partial(_are, bool)
    kind = None if values._variant_mapping else kind_of(values)
    if kind is str:
        return partial(_are_texts, getattr(values, "length", None))
    if kind is int:
        return partial(_are_numbers, 2 ** min(_BITS[values.compile(each)] for each in DIALECTS))
    return None


def _or_null(rule: Rule, values: Sequence[Any]) -> bool:
    return rule([each for each in values if each is not None])


def _are(kind: type, values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {kind}


def _are_times(values: Sequence[Any]) -> bool:
    return _are(datetime, values) and all(each.tzinfo is UTC for each in values)


def _are_numbers(end: int, values: Sequence[Any]) -> bool:
    return _are(int, values) and (not values or (-end <= min(values) and max(values) < end))


def _are_texts(length: int | None, values: Sequence[Any]) -> bool:
    """Whether they can be encoded, and are not too long."""
    if not _are(str, values) or (length is not None and max(map(len, values), default=0) > length):
        return False
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return False
    return True
