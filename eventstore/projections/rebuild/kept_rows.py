"""Rows that stay in the switch, because rows of other tables refer to them: they are updated.

All others are deleted before, and inserted again. So no foreign key of others ever sees a row
deleted, or a key changed, whatever it would do about that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Table,
    UniqueConstraint,
    and_,
    delete,
    exists,
    insert,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from eventstore.errors import CannotReplace
from eventstore.projections.database.catalog import (
    Catalog,
    Reference,
    clause_of,
    stored,
    target_of,
)
from eventstore.projections.projection import Projection


class KeptRows:
    """The tables with such rows: those that others refer to, and those that their rows refer to.

    `tables` are all of the projection, in the order of their foreign keys, which form no circle.
    """

    def __init__(
        self, projection: Projection, tables: Sequence[Table], references: Sequence[Reference]
    ) -> None:
        self._projection = projection
        self._references = list(references)
        keeping: set[Table] = set()
        for each in reversed(tables):
            if any(reference.to is each for reference in self._references):
                keeping.add(each)
                self._references += _of_own(each, tables)
        self.tables = [each for each in tables if each in keeping]

    def delete_others(self, connection: Connection, catalog: Catalog) -> None:
        """Delete the rows that nobody refers to; nobody can refer to one until the end."""
        for each in self.tables:
            catalog.lock(each)
        for each in reversed(self.tables):
            referred = [_refers(reference) for reference in self._to(each)]
            connection.execute(delete(each).where(not_(or_(*referred))))

    def replace(self, connection: Connection, catalog: Catalog, rows: Table, source: Table) -> None:
        """Update the rows of a table from those of a source, and insert the others.

        Raises `CannotReplace` if a row that stayed is not in the source.
        """
        new = source.alias("new_rows")  # as both have the same name
        same = _same(rows, new, rows.primary_key.columns.keys())
        as_referred = {name for each in self._to(rows) for _, name in each.pairs}
        keys = [each.key for each in rows.columns if each.name in as_referred]
        lost = ~exists().where(same, _same(rows, new, keys)).correlate(rows)
        if connection.execute(select(true()).select_from(rows).where(lost).limit(1)).first():
            others = sorted({catalog.reference_name(each) for each in self._to(rows)})
            raise CannotReplace(
                f"the rows of projection {self._projection.name} cannot be replaced: rows of table "
                f"{', '.join(others)} refer to rows of {catalog.name(rows)} that the new version "
                "does not have. Delete or change them. Nothing was changed"
            )
        columns = stored(rows)
        values = [
            new.c[each.key] if isinstance(each, Column) else each
            for each in catalog.values(rows, source)
        ]
        changed: dict[Any, Any] = {
            each: select(value).select_from(new).where(same).correlate(rows).scalar_subquery()
            for each, value in zip(columns, values, strict=True)
            if not each.primary_key
        }
        if changed:
            _update(connection, rows, changed, as_referred)
        missing = ~exists().where(same).correlate(new)
        inserted = select(*values).select_from(new).where(missing)
        connection.execute(insert(rows).from_select(columns, inserted))

    def _to(self, rows: Table) -> list[Reference]:
        return [each for each in self._references if each.to is rows]


def _update(
    connection: Connection, rows: Table, values: dict[Any, Any], referred: set[str]
) -> None:
    """Update all rows; a value of a key may pass from one to another, if it may be null."""
    try:
        with connection.begin_nested():
            connection.execute(update(rows).values(values))
    except IntegrityError:
        free = [each for each in values if each.nullable and each.name not in referred]
        freed = [each for each in free if _is_unique(rows, each)]
        if not freed:
            raise
        connection.execute(update(rows).values(dict.fromkeys(freed, null())))
        connection.execute(update(rows).values(values))


def _is_unique(rows: Table, column: Column[Any]) -> bool:
    keys = [each.columns for each in rows.constraints if isinstance(each, UniqueConstraint)]
    keys += [each.columns for each in rows.indexes if each.unique]
    return any(column in each.values() for each in keys)


def _of_own(child: Table, tables: Sequence[Table]) -> list[Reference]:
    """The foreign keys of a table to others of the same projection."""
    found = []
    for constraint in child.foreign_key_constraints:
        name, columns = target_of(constraint)
        to = [each for each in tables if name == [*filter(None, [each.schema]), each.name]]
        own = [element.parent.name for element in constraint.elements]
        clause = clause_of(child.schema, child.name, own)
        found += [Reference(clause, each, tuple(zip(own, columns, strict=True))) for each in to]
    return found


def _refers(reference: Reference) -> ColumnElement[bool]:
    child = reference.child.alias()
    columns = {each.name: each for each in reference.to.columns}
    pairs = [child.c[own] == columns[name] for own, name in reference.pairs]
    return exists().select_from(child).where(and_(*pairs)).correlate(reference.to)


def _same(rows: Table, new: FromClause, keys: Sequence[str]) -> ColumnElement[bool]:
    return and_(true(), *(rows.c[key] == new.c[key] for key in keys))
