"""The catalog of PostgreSQL: `pg_catalog`, and its functions that write definitions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    ForeignKeyConstraint,
    Insert,
    Table,
    delete,
    insert,
    literal_column,
    select,
    text,
)

from eventstore.projections.database.catalog import postgresql_queries as queries
from eventstore.projections.database.catalog.base import (
    Catalog,
    Reference,
    TableDefinition,
    clause_of,
    create,
    stored,
    target_of,
)
from eventstore.projections.database.catalog.postgresql_keys import advance_keys

_ACTIONS = {"NO ACTION": "a", "RESTRICT": "r", "CASCADE": "c", "SET NULL": "n", "SET DEFAULT": "d"}
_SEQUENCE = re.compile(r"nextval\('.*'::regclass\)")


class PostgresqlCatalog(Catalog):
    """See `Catalog`."""

    def definitions(
        self, tables: Sequence[Table], outgoing: Sequence[Sequence[ForeignKeyConstraint]] = ()
    ) -> list[TableDefinition | None]:
        """Read the catalog with the tables' own schemas before all others in the search path."""
        ids = self._ids(tables)
        declared = [{self._declared(each) for each in constraints} for constraints in outgoing]
        types = self._rows(queries.TYPES, own=self._existing(tables))
        schemas = [*(table.schema for table in tables), *sorted({row.schema for row in types})]
        found = []
        for table, id_, more in zip(tables, ids, declared or [set()] * len(ids), strict=True):
            with self._path(table.schema, *schemas):
                own = [each for each in ids if each]
                found.append(id_ and self._definition(id_, own, more))
        return [each or None for each in found]

    def references(self, tables: Sequence[Table]) -> list[Reference]:
        """Read the constraints of all other tables."""
        by_id = self._parts(tables)
        return [
            Reference(
                clause_of(row.schema, row.name, row.columns),
                by_id[row.confrelid],
                tuple(zip(row.columns, row.targets, strict=True)),
            )
            for row in self._rows(queries.REFERENCES, own=list(by_id))
        ]

    def reacting(self, tables: Sequence[Table]) -> list[str]:
        """Triggers and rules, those that are disabled, too."""
        return [row[0] for row in self._rows(queries.REACTING, own=list(self._parts(tables)))]

    def heirs(self, tables: Sequence[Table]) -> list[str]:
        """Tables that inherit from these, and are not partitions."""
        return [row[0] for row in self._rows(queries.HEIRS, own=self._existing(tables))]

    def alien(self, tables: Sequence[Table]) -> list[str]:
        """Those of an owner that the user is not a member of, or in a schema without `CREATE`."""
        return [row[0] for row in self._rows(queries.ALIEN, own=self._existing(tables))]

    def dependents(self, tables: Sequence[Table], shadows: Sequence[Table]) -> list[str]:
        """Read the dependencies that would prevent a drop, or be lost by it."""
        types = [row.oid for row, _ in self._changed_types(tables, shadows)]
        found = self._rows(queries.DEPENDENTS, own=self._existing(tables), types=types)
        return [row[0] for row in found]

    def belongings(self, table: Table, declared: Iterable[str]) -> list[str]:
        """Its other indexes, the privileges of all roles but the owner, settings, and the owner."""
        (id_,) = self._ids([table])
        names = set(declared)
        indexes = [
            row.definition for row in self._rows(queries.INDEXES, id=id_) if row.name not in names
        ]
        grants = [self._grant(table, row) for row in self._rows(queries.GRANTS, id=id_)]
        commented = [column.name for column in table.columns if column.comment is not None]
        settings = self._rows(
            queries.SETTINGS,
            id=id_,
            name=self.name(table),
            plain=not table.dialect_options["postgresql"].get("with"),  # SQLAlchemy 2.1 has it
            commented=[*commented, *([""] if table.comment is not None else [])],
        )
        return indexes + grants + [row[0] for row in settings]

    def recreate(self, tables: Sequence[Table], shadows: Sequence[Table]) -> None:
        """Drop them together, for they may refer to each other; then the types."""
        changed = self._changed_types(tables, shadows)
        self.execute(f"DROP TABLE {', '.join(map(self.name, tables))}")
        for row, definition in changed:
            name = f"{self._preparer.quote(row.schema)}.{self._preparer.quote(row.name)}"
            self.execute(f"DROP {row.kind} {name}")
            self.execute(f"CREATE {row.kind} {name} AS {definition}")
        create(self.connection, tables)

    def empty(self, tables: Sequence[Table], *, circular: bool) -> None:
        """Delete rows; in a circle in one statement, at whose end foreign keys are checked."""
        self._execute([delete(table) for table in reversed(tables)], together=circular)

    def fill(self, tables: Mapping[Table, Table], *, circular: bool) -> None:
        """Insert rows, as `empty` deletes them; then advance the sequences of generated keys."""
        statements = [
            insert(table).from_select(stored(table), select(*self.values(table, source)))
            for table, source in tables.items()
        ]
        self._execute(statements, together=circular)
        for table in tables:
            advance_keys(self.connection, table)

    def _execute(self, statements: Sequence[Delete | Insert], *, together: bool) -> None:
        if together and statements:
            *others, last = statements
            for number, each in enumerate(others):
                last = last.add_cte(each.cte(f"other_{number}"))
            statements = [last]
        for statement in statements:
            self.connection.execute(statement)

    def lock(self, table: Table) -> None:
        """Lock it against all but readers."""
        self.execute(f"LOCK TABLE {self.name(table)} IN EXCLUSIVE MODE")

    def values(self, table: Table, source: Table) -> Iterator[ColumnElement[Any]]:
        """The columns; an enumeration of the source's schema becomes that of the table's."""
        live, other = (
            {row.name: row for row in self._rows(queries.COLUMNS, id=id_)}
            for id_ in self._ids([table, source])
        )
        for column in stored(source):
            name = column.name
            if live[name].type_id == other[name].type_id:
                yield column
            else:
                quoted = self._preparer.quote(name)
                yield literal_column(f"CAST(CAST({quoted} AS text) AS {live[name].type})")

    def _definition(
        self, id_: int, own: list[int], outgoing: set[tuple[object, ...]]
    ) -> TableDefinition:
        columns = {
            row.name: (
                *(row.type, row.attnotnull, row.identity, row.computed, row.collation),
                row.value and _SEQUENCE.sub("nextval", row.value),
                row.defined,
            )
            for row in self._rows(queries.COLUMNS, id=id_)
        }
        constraints = {
            (row.conname, row.definition)
            for row in self._rows(queries.CONSTRAINTS, id=id_)
            if not row.confrelid or row.confrelid in own
        }
        leaving = {
            (
                *(row.confrelid, tuple(row.columns), tuple(row.targets)),
                *(row.updated, row.deleted, row.condeferrable, row.condeferred),
            )
            for row in self._rows(queries.OUTGOING, id=id_, own=own)
        }
        indexes = {row.name: row.definition for row in self._rows(queries.INDEXES, id=id_)}
        return TableDefinition(
            columns, frozenset(constraints), frozenset(leaving | outgoing), indexes
        )

    def _declared(self, constraint: ForeignKeyConstraint) -> tuple[object, ...]:
        is_deferred = (constraint.initially or "").upper() == "DEFERRED"
        target, columns = target_of(constraint)
        name = ".".join(map(self._preparer.quote, target))
        return (
            self.connection.execute(text(queries.FIND), {"name": name}).scalar_one(),
            tuple(element.parent.name for element in constraint.elements),
            tuple(columns),
            _ACTIONS[(constraint.onupdate or "NO ACTION").upper()],
            _ACTIONS[(constraint.ondelete or "NO ACTION").upper()],
            bool(constraint.deferrable) or is_deferred,
            is_deferred,
        )

    def _changed_types(
        self, tables: Sequence[Table], shadows: Sequence[Table]
    ) -> list[tuple[Any, str]]:
        """The types of tables that are others in the shadow, with their definitions there."""
        theirs = {
            row.name: row.definition
            for row in self._rows(queries.TYPES, own=self._existing(shadows))
        }
        return [
            (row, theirs[row.name])
            for row in self._rows(queries.TYPES, own=self._existing(tables))
            if theirs.get(row.name, row.definition) != row.definition
        ]

    def _grant(self, table: Table, row: Any) -> str:
        columns = f" ({self._preparer.quote(row.column)})" if row.column else ""
        to = self.connection.execute(text(queries.ROLE), {"id": row.grantee}).scalar_one()
        option = " WITH GRANT OPTION" if row.is_grantable else ""
        return f"GRANT {row.privilege_type}{columns} ON {self.name(table)} TO {to}{option}"

    @contextmanager
    def _path(self, *schemas: str | None) -> Iterator[None]:
        """Search these schemas first, so that names in them are written without their schema."""
        current = self.connection.execute(text("SELECT current_setting('search_path')"))
        before = current.scalar_one()
        first = [self._preparer.quote(each) for each in schemas if each]
        self._set_path(", ".join([*first, *([before] if before else [])]))
        yield
        self._set_path(before)

    def _set_path(self, path: str) -> None:
        self.connection.execute(
            text("SELECT set_config('search_path', :path, true)"), {"path": path}
        )

    def _ids(self, tables: Sequence[Table]) -> list[int | None]:
        return [
            self.connection.execute(text(queries.FIND), {"name": self.name(table)}).scalar_one()
            for table in tables
        ]

    def _parts(self, tables: Sequence[Table]) -> dict[int, Table]:
        """The tables by their ids, and by those of their partitions."""
        by_id = {id_: each for id_, each in zip(self._ids(tables), tables, strict=True) if id_}
        parts = self._rows(queries.PARTS, own=list(by_id))
        return by_id | {row.part: by_id[row.id] for row in parts}

    def _existing(self, tables: Sequence[Table]) -> list[int]:
        return [id_ for id_ in self._ids(tables) if id_]

    def _rows(self, statement: str, **values: object) -> Sequence[Any]:
        return self.connection.execute(text(statement), values).all()
