"""The plan of a switch: what has to be recreated, and what makes it impossible.

It is made before anything is built, and once more in the switch itself, for the tables of others
may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection, Index, Table
from sqlalchemy.exc import NoReferenceError

from eventstore.errors import CannotReplace
from eventstore.projections.database.catalog import (
    Catalog,
    Reference,
    TableDefinition,
    catalog_of,
    declared_indexes,
)
from eventstore.projections.database.declared import indexes_of
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.declaration import Declaration


class Plan(NamedTuple):
    """What a switch does to tables, in the order of their foreign keys.

    The rows of all `tables` are replaced. `recreated` are dropped before and, with those that are
    `missing`, created as they are declared. `obsolete` indexes of the others are dropped, and
    `indexes` created. `references` are foreign keys of others, whose rows keep what they refer to.
    """

    tables: Sequence[Table]
    is_circular: bool
    recreated: Sequence[Table] = ()
    missing: Sequence[Table] = ()
    obsolete: Sequence[tuple[Table, str]] = ()
    indexes: Sequence[Index] = ()
    references: Sequence[Reference] = ()


def plan(
    connection: Connection, in_shadow: Callable[[Table], Table], projection: Projection
) -> Plan:
    """The plan of a switch to the tables of a shadow, which are made as they are declared.

    Raises `CannotReplace`, with all reasons, if it would change rows or tables of others, or lose
    what others have added to the projection's tables.
    """
    catalog, declaration = catalog_of(connection), Declaration(projection)
    tables = declaration.tables
    shadows = [in_shadow(table) for table in tables]
    outgoing = [[each for each in declaration.outgoing if each.table is t] for t in tables]
    wanted = catalog.definitions(shadows, outgoing)
    pairs = list(zip(catalog.definitions(tables), wanted, strict=True))
    found = dict(zip(tables, pairs, strict=True))
    there = [table for table in tables if found[table][0] is not None]
    changed = {table for table in there if not _is_like(*found[table])}
    recreated = [table for table in there if table in _with_referring(changed, tables)]
    references = catalog.references(there)
    reasons = [
        f"table {catalog.reference_name(each)} refers to {catalog.name(each.to)}, {reason}"
        for each in references
        if (reason := _unkeepable(each, recreated, declaration))
    ]
    reasons += _obstacles(catalog, there)
    own = indexes_of(connection, projection)
    changes = {
        table: _changed_indexes(*found[table], own[table.fullname])
        for table in there
        if table not in recreated
    }
    altered = [*recreated, *(table for table, names in changes.items() if names)]
    reasons += [f"{each} has to change, and is not this user's" for each in catalog.alien(altered)]
    if recreated:
        names = ", ".join(map(catalog.name, recreated))
        reasons += [
            f"{each} depends on the old definition of {names}"
            for each in catalog.dependents(recreated, [in_shadow(table) for table in recreated])
        ]
    _refuse(projection, reasons)
    declared = {table: declared_indexes(connection, table) for table in changes}
    return Plan(
        tables,
        declaration.is_circular,
        recreated,
        missing=[table for table in tables if table not in there],
        obsolete=[(t, name) for t, names in changes.items() for name in names if names[name]],
        indexes=[
            declared[t][name] for t, names in changes.items() for name in names.keys() & declared[t]
        ],
        references=references,
    )


def check_rows(connection: Connection, projection: Projection) -> None:
    """Raise `CannotReplace` if rows cannot be deleted without changing what is not theirs."""
    catalog, tables = catalog_of(connection), Declaration(projection).tables
    reasons = [
        f"table {catalog.reference_name(each)} refers to {catalog.name(each.to)}"
        for each in catalog.references(tables)
    ]
    _refuse(projection, reasons + _obstacles(catalog, tables))


def _is_like(live: TableDefinition | None, declared: TableDefinition | None) -> bool:
    return live is not None and declared is not None and live.is_like(declared)


def _with_referring(changed: set[Table], tables: Sequence[Table]) -> set[Table]:
    """These tables, and those whose foreign keys to them would be dropped with them."""
    found = set(changed)
    for _ in tables:
        found |= {table for table in tables if found & _targets(table)}
    return found


def _targets(table: Table) -> set[Table]:
    found = set()
    for constraint in table.foreign_key_constraints:
        with suppress(NoReferenceError):
            found.add(constraint.referred_table)
    return found


def _changed_indexes(
    live: TableDefinition | None, declared: TableDefinition | None, own: Collection[str]
) -> dict[str, bool]:
    """The names of a table's own indexes that are not as declared, and whether each is there."""
    found = {} if live is None else live.indexes
    wanted = {} if declared is None else declared.indexes
    return {name: name in found for name in sorted(own) if found.get(name) != wanted.get(name)}


def _unkeepable(
    reference: Reference, recreated: Sequence[Table], declaration: Declaration
) -> str | None:
    """Why the rows that it refers to cannot stay, and be updated."""
    table = reference.to
    if table in recreated:
        return "whose definition has changed"
    if declaration.is_circular:
        return "which is in a circle of foreign keys"
    if not table.primary_key.columns:
        return "which has no primary key"
    if table.autoincrement_column is not None:
        return "whose keys are generated, and are others after a rebuild"
    return None


def _obstacles(catalog: Catalog, tables: Sequence[Table]) -> list[str]:
    reasons = [f"{each} would run for every row" for each in catalog.reacting(tables)]
    return reasons + [f"{each}, would lose its rows" for each in catalog.heirs(tables)]


def _refuse(projection: Projection, reasons: Sequence[str]) -> None:
    if reasons:
        raise CannotReplace(
            f"the rows of projection {projection.name} cannot be replaced: {'; '.join(reasons)}. "
            "Drop what is named, and create it again afterwards. Nothing was changed"
        )
