"""The effects of a change: what it reads and writes of its tables, if these prove it.

Changes of the same scope commute, too, if neither writes what the other reads or writes: an input
that is added to a flake, and the time at which the flake was changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, cast

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Insert,
    PrimaryKeyConstraint,
    Select,
    Table,
    UniqueConstraint,
    Update,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.sql.visitors import ExternallyTraversible, iterate

from eventstore.projections.projection import Statement

_UNIQUE = (PrimaryKeyConstraint, UniqueConstraint)

Part = tuple[Table, str | None]
"""A column of a table; without its name, which rows the table has, and by which keys."""


class Effects(NamedTuple):
    """The parts of tables that a change reads, and those that it writes."""

    reads: frozenset[Part]
    writes: frozenset[Part]

    def conflict(self, other: Effects) -> bool:
        """Whether the order of two changes of one scope may matter."""
        return not (
            self.writes.isdisjoint(other.writes)
            and self.writes.isdisjoint(other.reads)
            and self.reads.isdisjoint(other.writes)
        )


@lru_cache(maxsize=1024)
def effects_of(statement: Statement, keys: tuple[str, ...]) -> Effects:
    """The effects of a statement that has a pin, with values of these keys."""
    table = cast("Table", statement.table)  # for it has a pin
    if isinstance(statement, Update):
        own = written(statement, keys)
        if own.isdisjoint(_dependent(table)):
            parts = [*statement._where_criteria, *dict(statement._values or {}).values()]
            return Effects(_read(table, parts), frozenset((table, each) for each in own))
    reads: set[Part] = {(each, None) for each in _linked(table)}
    if isinstance(statement, Insert) and isinstance(statement.select, Select):
        (source,) = statement.select.get_final_froms()
        reads |= _read(cast("Table", source), [statement.select])
    return Effects(frozenset(reads), frozenset(_whole(table)))


@lru_cache(maxsize=1024)
def written(statement: Update, keys: tuple[str, ...]) -> frozenset[str]:
    """The columns that an update sets."""
    named = {getattr(each, "key", each) for each in dict(statement._values or {})}
    columns = statement.table.columns
    return frozenset(
        each.key
        for each in columns
        if each.key in keys or each.key in named or each.onupdate is not None
    )


def _read(table: Table, parts: Iterable[ExternallyTraversible]) -> frozenset[Part]:
    columns = (each for part in parts for each in iterate(part) if isinstance(each, Column))
    return frozenset([(table, None), *((table, each.key) for each in columns)])


def _whole(table: Table) -> Iterator[Part]:
    yield table, None
    yield from ((table, each.key) for each in table.columns)


@lru_cache(maxsize=1024)
def _dependent(table: Table) -> frozenset[str]:
    """The columns by which a change can be refused, other than for being null."""
    if any(_is_unclear(each) for each in (*table.constraints, *table.indexes)):
        return frozenset(table.columns.keys())
    keys = [each for each in table.constraints if isinstance(each, _UNIQUE)]
    indexed = {column for key in (*keys, *table.indexes) for column in key.columns}
    referred = {key.target_fullname.rpartition(".")[2] for key in _foreign_keys_to(table)}
    return frozenset(
        each.key
        for each in table.columns
        if each in indexed or each.foreign_keys or {each.key, each.name} & referred
    )


def _is_unclear(part: SchemaItem) -> bool:
    """Whether it may depend on any column: on an expression, or only for some rows."""
    if isinstance(part, Index):
        plain = all(isinstance(each, Column) for each in part.expressions)
        return not plain or bool(part.dialect_kwargs)
    return isinstance(part, CheckConstraint)


def _linked(table: Table) -> set[Table]:
    """The tables that this one refers to, and those that refer to it."""
    referred = {each.referred_table for each in table.foreign_key_constraints}
    return referred | {key.parent.table for key in _foreign_keys_to(table)}


def _foreign_keys_to(table: Table) -> Iterator[ForeignKey]:
    for other in table.metadata.tables.values():
        for constraint in other.foreign_key_constraints:
            for key in constraint.elements:
                if key.target_fullname.rpartition(".")[0] == table.fullname:
                    yield key
