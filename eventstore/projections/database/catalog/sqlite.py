"""The catalog of SQLite: its schema table, and pragmas."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKeyConstraint,
    Table,
    delete,
    insert,
    inspect,
    null,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from eventstore.projections.database.catalog.base import (
    Catalog,
    Reference,
    TableDefinition,
    clause_of,
    create,
    stored,
    target_of,
)
from eventstore.projections.database.catalog.sqlite_text import normalized, options_of, quoted

_UNIQUE = "u"
_NO_ACTION = "NO ACTION"


class SqliteCatalog(Catalog):
    """See `Catalog`."""

    def definitions(
        self, tables: Sequence[Table], outgoing: Sequence[Sequence[ForeignKeyConstraint]] = ()
    ) -> list[TableDefinition | None]:
        """Read pragmas, and the text of what has none."""
        own = {table.name.lower() for table in tables}
        declared = [set(map(_declared, constraints)) for constraints in outgoing]
        pairs = zip(tables, declared or [set()] * len(tables), strict=True)
        return [self._definition(each, own, more) for each, more in pairs]

    def references(self, tables: Sequence[Table]) -> list[Reference]:
        """Read the foreign keys of all other tables."""
        own = {table.name.lower(): table for table in tables}
        found = []
        for name, _ in self._schema_rows("main", "table"):
            if name.lower() not in own:
                for rows in self._keys_of("main", name):
                    to = own.get(rows[0].table.lower())
                    if to is not None:
                        key = [column.name for column in to.primary_key.columns]
                        pairs = tuple((row[3], row[4] or key[row.seq]) for row in rows)
                        child = clause_of(None, name, (own_name for own_name, _ in pairs))
                        found.append(Reference(child, to, pairs))
        return found

    def reacting(self, tables: Sequence[Table]) -> list[str]:
        """The triggers of these tables."""
        return [
            f"trigger {name} on table {table.name}"
            for table in tables
            for name, _ in self._schema_rows("main", "trigger", table)
        ]

    def dependents(self, tables: Sequence[Table], shadows: Sequence[Table]) -> list[str]:
        """The views that could be read until now, tried out in a database of the schema only."""
        statements = [sql for kind in ("table", "view") for _, sql in self._all("main", kind)]
        views = [name for name, _ in self._schema_rows("main", "view")]
        with closing(sqlite3.connect(":memory:")) as copy:
            for statement in statements:
                with suppress(sqlite3.Error):  # what needs a module or function of its owner's
                    copy.execute(statement)
            readable = [view for view in views if _is_readable(copy, view)]
            for table, shadow in zip(tables, shadows, strict=True):
                copy.execute(f"DROP TABLE IF EXISTS {quoted(table.name)}")
                for _, sql in self._schema_rows(str(shadow.schema), "table", shadow):
                    copy.execute(sql)
            return [f"view {view}" for view in readable if not _is_readable(copy, view)]

    def belongings(self, table: Table, declared: Iterable[str]) -> list[str]:
        """Its other indexes; there are no privileges."""
        names = set(declared)
        return [sql for name, sql in self._schema_rows("main", "index", table) if name not in names]

    def recreate(self, tables: Sequence[Table], shadows: Sequence[Table]) -> None:
        """Replace one after the other, once all are empty; there are no types."""
        self.empty(tables, circular=True)
        for table in tables:
            self.execute(f"DROP TABLE {self.name(table)}")
            # Before the next is dropped: cascades need what their tables refer to.
            create(self.connection, [table])

    def empty(self, tables: Sequence[Table], *, circular: bool) -> None:
        """Delete rows, with what their own foreign keys forbid taken back before."""
        self.execute("PRAGMA defer_foreign_keys = ON")
        for table in tables if circular else ():
            for constraint in table.foreign_key_constraints:
                if all(column.nullable for column in constraint.columns):
                    nothing = dict.fromkeys((column.key for column in constraint.columns), null())
                    self.connection.execute(update(table).values(nothing))
        for table in reversed(tables):
            self.connection.execute(delete(table))

    def fill(self, tables: Mapping[Table, Table], *, circular: bool) -> None:
        """Insert rows, with foreign keys checked after all; keys are generated after these."""
        self.execute("PRAGMA defer_foreign_keys = ON")
        for table, source in tables.items():
            rows = select(*self.values(table, source))
            self.connection.execute(insert(table).from_select(stored(table), rows))

    def values(self, table: Table, source: Table) -> Iterable[ColumnElement[Any]]:
        """The columns as they are."""
        return stored(source)

    def check_foreign_keys(self, tables: Sequence[Table]) -> None:
        """Check all rows; events that are applied next find their own checked at once, as ever."""
        for each in tables:
            self._check_rows(each)
        self.execute("PRAGMA defer_foreign_keys = OFF")  # which forgets what was violated

    def _check_rows(self, table: Table) -> None:
        lost = self._pragma(table.schema or "main", "foreign_key_check", table.name)
        if lost:
            words = f"{len(lost)} rows of {lost[0].table} refer to missing rows of {lost[0].parent}"
            raise IntegrityError(None, None, sqlite3.IntegrityError(words))

    def _definition(
        self, table: Table, own: set[str], outgoing: set[tuple[object, ...]]
    ) -> TableDefinition | None:
        schema = table.schema or "main"
        found = list(self._schema_rows(schema, "table", table))
        if not found:
            return None
        computed = {
            column["name"]: normalized(str(column["computed"]["sqltext"]))
            for column in inspect(self.connection).get_columns(table.name, schema)
            if "computed" in column
        }
        columns = {
            row.name: (*row[2:], computed.get(row.name))
            for row in self._pragma(schema, "table_xinfo", table.name)
        }
        keys = set(self._foreign_keys(schema, table.name))
        inside = {key for key in keys if key[0] in own}
        constraints = {*inside, *self._unique(schema, table.name), *self._checks(schema, table)}
        constraints |= options_of(found[0][1])
        indexes = {name: normalized(sql) for name, sql in self._schema_rows(schema, "index", table)}
        return TableDefinition(
            columns, frozenset(constraints), frozenset(keys - inside | outgoing), indexes
        )

    def _foreign_keys(self, schema: str, name: str) -> Iterator[tuple[object, ...]]:
        deferred = {
            tuple(key["constrained_columns"]): _is_deferred(key["options"].get("initially"))
            for key in inspect(self.connection).get_foreign_keys(name, schema)
        }
        for rows in self._keys_of(schema, name):
            pairs = tuple(sorted((row[3], row[4]) for row in rows))
            yield (
                *(rows[0].table.lower(), pairs, rows[0].on_update, rows[0].on_delete),
                deferred.get(tuple(row[3] for row in rows), False),
            )

    def _keys_of(self, schema: str, name: str) -> Iterable[list[Any]]:
        """The rows of each foreign key, in the order of its columns."""
        by_id: dict[int, list[Any]] = defaultdict(list)
        for row in self._pragma(schema, "foreign_key_list", name):
            by_id[row.id].append(row)
        return by_id.values()

    def _unique(self, schema: str, name: str) -> Iterator[object]:
        for index in self._pragma(schema, "index_list", name):
            if index.origin == _UNIQUE:
                rows = self._pragma(schema, "index_info", index.name)
                yield "unique", tuple(row.name for row in rows)

    def _checks(self, schema: str, table: Table) -> Iterator[object]:
        for check in inspect(self.connection).get_check_constraints(table.name, schema):
            yield "check", normalized(str(check["sqltext"]))

    def _schema_rows(
        self, schema: str, kind: str, table: Table | None = None
    ) -> Iterator[tuple[str, str]]:
        """The names and statements of what was created by a statement."""
        for name, sql in self._all(schema, kind, None if table is None else table.name):
            if not name.startswith("sqlite_"):
                yield name, sql

    def _all(self, schema: str, kind: str, table: str | None = None) -> Sequence[Any]:
        where = " AND tbl_name = :name COLLATE NOCASE" if table is not None else ""
        found = self.connection.exec_driver_sql(
            f"SELECT name, sql FROM {quoted(schema)}.sqlite_master"  # noqa: S608
            f" WHERE type = :kind AND sql IS NOT NULL{where} ORDER BY rowid",
            {"kind": kind, "name": table},
        )
        return found.all()

    def _pragma(self, schema: str, pragma: str, name: str) -> Sequence[Any]:
        statement = f"PRAGMA {quoted(schema)}.{pragma}({quoted(name)})"
        return self.connection.exec_driver_sql(statement).all()


def _declared(constraint: ForeignKeyConstraint) -> tuple[object, ...]:
    target, columns = target_of(constraint)
    pairs = zip((each.parent.name for each in constraint.elements), columns, strict=True)
    updated, deleted = constraint.onupdate or _NO_ACTION, constraint.ondelete or _NO_ACTION
    return (
        *(target[-1].lower(), tuple(sorted(pairs)), updated.upper(), deleted.upper()),
        _is_deferred(constraint.initially),
    )


def _is_deferred(initially: str | None) -> bool:
    """Whether a foreign key is checked at the end of a transaction, and not of each statement."""
    return initially is not None and initially.upper() == "DEFERRED"


def _is_readable(connection: sqlite3.Connection, view: str) -> bool:
    try:
        connection.execute(f"SELECT * FROM {quoted(view)} LIMIT 0")  # noqa: S608
    except sqlite3.Error:
        return False
    return True
