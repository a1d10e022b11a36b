"""What the catalog of PostgreSQL is asked: statements on `pg_catalog`.

`:own` are the ids of tables, `:id` is one; `:name` is how a statement names it.
"""

from __future__ import annotations

FIND = "SELECT CAST(to_regclass(:name) AS oid)"

_DEFINED = """
CASE e.typtype WHEN 'e' THEN
    'ENUM (' || (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
                 FROM pg_enum WHERE enumtypid = e.oid) || ')'
ELSE concat_ws(' ', format_type(e.typbasetype, e.typtypmod), 'DEFAULT ' || e.typdefault,
    CASE WHEN e.typnotnull THEN 'NOT NULL' END,
    (SELECT string_agg('CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid),
                       ' ' ORDER BY conname)
     FROM pg_constraint WHERE contypid = e.oid AND contype = 'c'))
END
"""
"""What an enumeration or a domain is created as."""

COLUMNS = f"""
SELECT a.attname AS name, a.atttypid AS type_id, format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull, CAST(a.attidentity AS text) AS identity, CAST(a.attgenerated AS text) AS computed,
    pg_get_expr(d.adbin, d.adrelid, true) AS value, c.collname AS collation,
    (SELECT {_DEFINED} FROM pg_type e
     WHERE e.oid IN (t.oid, t.typelem) AND e.typtype IN ('e', 'd')) AS defined
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = :id AND a.attnum > 0 AND NOT a.attisdropped
"""  # noqa: S608

CONSTRAINTS = """
SELECT conname, confrelid, pg_get_constraintdef(oid, true) AS definition
FROM pg_constraint WHERE conrelid = :id AND contype IN ('p', 'u', 'c', 'x', 'f')
"""

OUTGOING = """
SELECT confrelid, condeferrable, condeferred,
    CAST(confupdtype AS text) AS updated, CAST(confdeltype AS text) AS deleted,
    (SELECT array_agg(CAST(a.attname AS text) ORDER BY k.n)
     FROM unnest(conkey) WITH ORDINALITY AS k(number, n)
     JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.number) AS columns,
    (SELECT array_agg(CAST(a.attname AS text) ORDER BY k.n)
     FROM unnest(confkey) WITH ORDINALITY AS k(number, n)
     JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.number) AS targets
FROM pg_constraint WHERE conrelid = :id AND contype = 'f' AND confrelid <> ALL(:own)
"""

INDEXES = """
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid, 0, true) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = :id AND NOT EXISTS (
    SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY c.relname
"""

REFERENCES = """
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

PARTS = """
SELECT id, CAST(relid AS oid) AS part
FROM unnest(CAST(:own AS oid[])) AS id, pg_partition_tree(CAST(id AS regclass))
"""

HEIRS = """
SELECT 'table ' || CAST(CAST(inhrelid AS regclass) AS text) || ', which inherits from '
    || CAST(CAST(inhparent AS regclass) AS text)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = ANY(:own) AND inhrelid <> ALL(:own) AND NOT relispartition
ORDER BY 1
"""

ALIEN = """
SELECT 'table ' || CAST(CAST(oid AS regclass) AS text) FROM pg_class
WHERE oid = ANY(:own) AND NOT (
    pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE'))
ORDER BY 1
"""

REACTING = """
SELECT 'trigger ' || tgname || ' on table ' || CAST(CAST(tgrelid AS regclass) AS text)
FROM pg_trigger WHERE tgrelid = ANY(:own) AND NOT tgisinternal
UNION ALL
SELECT 'rule ' || rulename || ' on table ' || CAST(CAST(ev_class AS regclass) AS text)
FROM pg_rewrite WHERE ev_class = ANY(:own) AND rulename <> '_RETURN'
ORDER BY 1
"""

DEPENDENTS = """
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
    AND COALESCE(k.conrelid, f.adrelid, 0) <> ALL(:own) AND k.contype IS DISTINCT FROM 'f'
    AND NOT (d.classid = CAST('pg_class' AS regclass) AND d.objid IN (
        SELECT unnest(CAST(:own AS oid[]))
        UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = ANY(:own)))
UNION
SELECT 'partition ' || CAST(CAST(inhrelid AS regclass) AS text)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = ANY(:own) AND relispartition
ORDER BY 1
"""

GRANTS = """
SELECT privilege_type, CAST(NULL AS text) AS column, grantee, is_grantable
FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = :id AND grantee <> c.relowner
UNION ALL
SELECT privilege_type, a.attname, grantee, is_grantable
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl)
WHERE c.oid = :id AND grantee <> c.relowner AND NOT a.attisdropped
"""

SETTINGS = """
WITH found AS (SELECT oid AS id, *, CAST(:name AS text) AS name FROM pg_class WHERE oid = :id)
SELECT format('ALTER TABLE %s SET (%s)', name, array_to_string(reloptions, ', '))
FROM found WHERE reloptions IS NOT NULL AND CAST(:plain AS boolean)
UNION ALL
SELECT format('ALTER TABLE %s SET UNLOGGED', name) FROM found WHERE relpersistence = 'u'
UNION ALL
SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', name,
              CASE relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END)
FROM found WHERE relreplident IN ('f', 'n')
UNION ALL
SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', name, word)
FROM found, unnest(ARRAY['ENABLE', 'FORCE']) AS word
WHERE CASE word WHEN 'FORCE' THEN relforcerowsecurity ELSE relrowsecurity END
UNION ALL
SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = :id
UNION ALL
SELECT format('COMMENT ON %s %s IS %L', CASE objsubid WHEN 0 THEN 'TABLE' ELSE 'COLUMN' END,
              concat_ws('.', name, quote_ident(attname)), description)
FROM found JOIN pg_description ON objoid = id AND classoid = CAST('pg_class' AS regclass)
LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND attnum > 0
WHERE COALESCE(attname, '') <> ALL(CAST(:commented AS text[]))
UNION ALL
SELECT format('ALTER TABLE %s OWNER TO %I', name, pg_get_userbyid(relowner))
FROM found WHERE relowner <> CAST(current_user AS regrole)
"""
"""What is set for a table, beside what it is declared with; its owner last."""

ROLE = """
SELECT CASE CAST(:id AS oid) WHEN 0 THEN 'PUBLIC'
    ELSE quote_ident(pg_get_userbyid(CAST(:id AS oid))) END
"""

TYPES = f"""
SELECT DISTINCT e.oid, n.nspname AS schema, e.typname AS name, {_DEFINED} AS definition,
    CASE e.typtype WHEN 'e' THEN 'TYPE' ELSE 'DOMAIN' END AS kind
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type e ON e.oid IN (t.oid, t.typelem) AND e.typtype IN ('e', 'd')
JOIN pg_namespace n ON n.oid = e.typnamespace
WHERE a.attrelid = ANY(:own) AND a.attnum > 0 AND NOT a.attisdropped
"""  # noqa: S608
"""The enumerations and domains of tables."""
