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

_FIND = "SELECT CAST(to_regclass(:name) AS oid)"

_COLUMNS = """
SELECT a.attname AS name, a.atttypid AS type_id, format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull, CAST(a.attidentity AS text) AS identity, CAST(a.attgenerated AS text) AS computed,
    pg_get_expr(d.adbin, d.adrelid, true) AS value, c.collname AS collation,
    (SELECT array_agg(CAST(e.enumlabel AS text) ORDER BY e.enumsortorder) FROM pg_enum e
     WHERE e.enumtypid IN (t.oid, t.typelem)) AS labels
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = :id AND a.attnum > 0 AND NOT a.attisdropped
"""

_CONSTRAINTS = """
SELECT conname, confrelid, pg_get_constraintdef(oid, true) AS definition
FROM pg_constraint WHERE conrelid = :id AND contype IN ('p', 'u', 'c', 'x', 'f')
"""

_OUTGOING = """
SELECT confrelid, CAST(confupdtype AS text) AS updated, CAST(confdeltype AS text) AS deleted,
    (SELECT array_agg(CAST(a.attname AS text) ORDER BY k.n)
     FROM unnest(conkey) WITH ORDINALITY AS k(number, n)
     JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.number) AS columns,
    (SELECT array_agg(CAST(a.attname AS text) ORDER BY k.n)
     FROM unnest(confkey) WITH ORDINALITY AS k(number, n)
     JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.number) AS targets
FROM pg_constraint WHERE conrelid = :id AND contype = 'f' AND confrelid <> ALL(:own)
"""

_INDEXES = """
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid, 0, true) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = :id AND NOT EXISTS (
    SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY c.relname
"""

_REFERENCES = """
SELECT CASE WHEN NOT pg_table_is_visible(c.oid) THEN n.nspname END AS schema, c.relname AS name,
    confrelid,
    (SELECT array_agg(CAST(a.attname AS text) ORDER BY k.n)
     FROM unnest(conkey) WITH ORDINALITY AS k(number, n)
     JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.number) AS columns,
    (SELECT array_agg(CAST(a.attname AS text) ORDER BY k.n)
     FROM unnest(confkey) WITH ORDINALITY AS k(number, n)
     JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.number) AS targets
FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE contype = 'f' AND confrelid = ANY(:own) AND conrelid <> ALL(:own) AND conparentid = 0
ORDER BY 1, 2
"""

_REACTING = """
SELECT 'trigger ' || tgname || ' on table ' || CAST(CAST(tgrelid AS regclass) AS text)
FROM pg_trigger WHERE tgrelid = ANY(:own) AND NOT tgisinternal
UNION ALL
SELECT 'rule ' || rulename || ' on table ' || CAST(CAST(ev_class AS regclass) AS text)
FROM pg_rewrite WHERE ev_class = ANY(:own) AND rulename <> '_RETURN'
ORDER BY 1
"""

_DEPENDENTS = """
WITH used AS (
    SELECT CAST('pg_class' AS regclass) AS class, unnest(CAST(:own AS oid[])) AS id
    UNION ALL
    SELECT CAST('pg_type' AS regclass), t.oid FROM pg_type t
    WHERE t.oid = ANY(:types) OR t.typrelid = ANY(:own) OR t.oid IN (
        SELECT typarray FROM pg_type WHERE oid = ANY(:types) OR typrelid = ANY(:own))
)
SELECT DISTINCT COALESCE(
    CASE v.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' END
        || CAST(CAST(v.oid AS regclass) AS text),
    pg_describe_object(d.classid, d.objid, d.objsubid))
FROM pg_depend d JOIN used ON d.refclassid = used.class AND d.refobjid = used.id
LEFT JOIN pg_rewrite r ON d.classid = CAST('pg_rewrite' AS regclass) AND r.oid = d.objid
LEFT JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
LEFT JOIN pg_constraint k ON d.classid = CAST('pg_constraint' AS regclass) AND k.oid = d.objid
LEFT JOIN pg_attrdef f ON d.classid = CAST('pg_attrdef' AS regclass) AND f.oid = d.objid
WHERE (d.deptype = 'n' OR d.classid = CAST('pg_policy' AS regclass)
       OR d.classid = CAST('pg_publication_rel' AS regclass))
    AND COALESCE(k.conrelid, f.adrelid, 0) <> ALL(:own)
    AND NOT (d.classid = CAST('pg_class' AS regclass) AND d.objid IN (
        SELECT unnest(CAST(:own AS oid[]))
        UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = ANY(:own)))
ORDER BY 1
"""

_GRANTS = """
SELECT privilege_type, CAST(NULL AS text) AS column, grantee, is_grantable
FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = :id AND grantee <> c.relowner
UNION ALL
SELECT privilege_type, a.attname, grantee, is_grantable
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl)
WHERE c.oid = :id AND grantee <> c.relowner AND NOT a.attisdropped
"""

_ROLE = """
SELECT CASE CAST(:id AS oid) WHEN 0 THEN 'PUBLIC'
    ELSE quote_ident(pg_get_userbyid(CAST(:id AS oid))) END
"""

_ENUMS = """
SELECT DISTINCT e.oid, n.nspname AS schema, e.typname AS name
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type e ON e.oid IN (t.oid, t.typelem) AND e.typtype = 'e'
JOIN pg_namespace n ON n.oid = e.typnamespace
WHERE a.attrelid = ANY(:own) AND a.attnum > 0 AND NOT a.attisdropped
"""

_LABELS = """
SELECT CAST(enumlabel AS text) FROM pg_enum WHERE enumtypid = :id ORDER BY enumsortorder
"""

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
        schemas = [table.schema for table in tables if table.schema]
        found = []
        for table, id_, more in zip(tables, ids, declared or [set()] * len(ids), strict=True):
            with self._path(table.schema, *schemas):
                own = [each for each in ids if each]
                found.append(id_ and self._definition(id_, own, more))
        return [each or None for each in found]

    def references(self, tables: Sequence[Table]) -> list[Reference]:
        """Read the constraints of all other tables."""
        by_id = dict(zip(self._ids(tables), tables, strict=True))
        return [
            Reference(
                clause_of(row.schema, row.name, row.columns),
                by_id[row.confrelid],
                tuple(zip(row.columns, row.targets, strict=True)),
            )
            for row in self._rows(_REFERENCES, own=self._existing(tables))
        ]

    def reacting(self, tables: Sequence[Table]) -> list[str]:
        """Triggers and rules, those that are disabled, too."""
        return [row[0] for row in self._rows(_REACTING, own=self._existing(tables))]

    def dependents(self, tables: Sequence[Table], shadows: Sequence[Table]) -> list[str]:
        """Read the dependencies that would prevent a drop, or be lost by it."""
        types = [id_ for id_, _, _ in self._changed_enums(tables, shadows)]
        found = self._rows(_DEPENDENTS, own=self._existing(tables), types=types)
        return [row[0] for row in found]

    def belongings(self, table: Table, declared: Iterable[str]) -> list[str]:
        """Its other indexes, and the privileges of all roles but the owner."""
        (id_,) = self._ids([table])
        names = set(declared)
        indexes = [row.definition for row in self._rows(_INDEXES, id=id_) if row.name not in names]
        return indexes + [self._grant(table, row) for row in self._rows(_GRANTS, id=id_)]

    def recreate(self, tables: Sequence[Table], shadows: Sequence[Table]) -> None:
        """Drop them together, for they may refer to each other; then the types."""
        changed = self._changed_enums(tables, shadows)
        self.execute(f"DROP TABLE {', '.join(map(self.name, tables))}")
        for _, name, labels in changed:
            literals = ", ".join(_literal(label) for label in labels)
            self.execute(f"DROP TYPE {name}")
            self.execute(f"CREATE TYPE {name} AS ENUM ({literals})")
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
            {row.name: row for row in self._rows(_COLUMNS, id=id_)}
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
                row.labels and tuple(row.labels),
            )
            for row in self._rows(_COLUMNS, id=id_)
        }
        constraints = {
            (row.conname, row.definition)
            for row in self._rows(_CONSTRAINTS, id=id_)
            if not row.confrelid or row.confrelid in own
        }
        leaving = {
            (row.confrelid, tuple(row.columns), tuple(row.targets), row.updated, row.deleted)
            for row in self._rows(_OUTGOING, id=id_, own=own)
        }
        indexes = {row.name: row.definition for row in self._rows(_INDEXES, id=id_)}
        return TableDefinition(
            columns, frozenset(constraints), frozenset(leaving | outgoing), indexes
        )

    def _declared(self, constraint: ForeignKeyConstraint) -> tuple[object, ...]:
        target, columns = target_of(constraint)
        name = ".".join(map(self._preparer.quote, target))
        return (
            self.connection.execute(text(_FIND), {"name": name}).scalar_one(),
            tuple(element.parent.name for element in constraint.elements),
            tuple(columns),
            _ACTIONS[(constraint.onupdate or "NO ACTION").upper()],
            _ACTIONS[(constraint.ondelete or "NO ACTION").upper()],
        )

    def _changed_enums(
        self, tables: Sequence[Table], shadows: Sequence[Table]
    ) -> list[tuple[int, str, list[str]]]:
        """The enumerations of tables whose labels are others in the shadow, with those."""
        theirs = {row.name: row.oid for row in self._rows(_ENUMS, own=self._existing(shadows))}
        changed = []
        for row in self._rows(_ENUMS, own=self._existing(tables)):
            if row.name in theirs:
                labels = [each[0] for each in self._rows(_LABELS, id=theirs[row.name])]
                if labels != [each[0] for each in self._rows(_LABELS, id=row.oid)]:
                    name = f"{self._preparer.quote(row.schema)}.{self._preparer.quote(row.name)}"
                    changed.append((row.oid, name, labels))
        return changed

    def _grant(self, table: Table, row: Any) -> str:
        columns = f" ({self._preparer.quote(row.column)})" if row.column else ""
        to = self.connection.execute(text(_ROLE), {"id": row.grantee}).scalar_one()
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
            self.connection.execute(text(_FIND), {"name": self.name(table)}).scalar_one()
            for table in tables
        ]

    def _existing(self, tables: Sequence[Table]) -> list[int]:
        return [id_ for id_ in self._ids(tables) if id_]

    def _rows(self, statement: str, **values: object) -> Sequence[Any]:
        return self.connection.execute(text(statement), values).all()


def _literal(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"
