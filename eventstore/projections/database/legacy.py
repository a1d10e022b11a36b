"""The library's tables under the names that they had until revision 0005.

Those names had no prefix, and `alembic_version` held one revision for them and the tables of the
shipped domain together. A user may have tables of these names, too: only those with our columns are
ours, whatever columns were added to them.
"""

from __future__ import annotations

from sqlalchemy import Connection, Inspector, inspect

from eventstore.errors import MigrationError

_REVISIONS = ("0001", "0002", "0003", "0004", "0005")

_CHECKPOINTS = "projection"
_FIRST_COLUMNS = frozenset({"name", "version", "position", "updated_at"})

_BESIDE_FIRST = frozenset({"configuration", "flake", "module", "overlay", "package"})

_COLUMNS = {
    _CHECKPOINTS: _FIRST_COLUMNS | {"epoch", "rate", "error", "log"},
    "parked_event": {
        *("projection", "position", "aggregate", "aggregate_id", "event_id", "event_type"),
        *("error", "tries", "parked_at"),
    },
    "audit_event": {
        *("position", "id", "type", "aggregate", "aggregate_id", "version", "schema_version"),
        *("time", "actor", "correlation_id", "causation_id", "chain"),
    },
    "audit_command": {
        *("id", "type", "aggregate", "aggregate_id", "version", "position", "time"),
        *("finished_at", "actor", "correlation_id", "causation_id", "status", "code", "message"),
        "deliveries",
    },
    "audit_outcomes": {"bucket", "made", "sequence"},
}
_SINCE = {
    "parked_event": "0002",
    "audit_event": "0005",
    "audit_command": "0005",
    "audit_outcomes": "0005",
}


def revision(connection: Connection) -> str | None:
    """The revision of a database in which the library's tables have their old names, or None.

    Raises `MigrationError` if they are of a revision that is not known.
    """
    inspector = inspect(connection)
    columns = _columns(inspector, _CHECKPOINTS)
    if columns != _FIRST_COLUMNS and not columns >= _COLUMNS[_CHECKPOINTS]:
        return None
    recorded = _recorded(connection)
    if columns == _FIRST_COLUMNS:
        # So few columns may be those of a user's table, beside an `alembic_version` of his own.
        is_ours = recorded == _REVISIONS[0] and _BESIDE_FIRST.issubset(inspector.get_table_names())
        return recorded if is_ours else None
    if recorded is None:
        raise MigrationError(
            "the read-model database has tables of an older release, but alembic_version does not "
            "say of which; restore that table, or use another database"
        )
    if recorded not in _REVISIONS[1:]:
        raise made_by_newer(recorded)
    return recorded


def tables(connection: Connection) -> frozenset[str]:
    """The old names of the library's tables that are there; raises as `revision`."""
    at = revision(connection)
    if at is None:
        return frozenset()
    inspector = inspect(connection)
    later = {
        name
        for name, since in _SINCE.items()
        if since <= at and _columns(inspector, name) >= _COLUMNS[name]
    }
    return frozenset({_CHECKPOINTS, *later})


def made_by_newer(revision: str) -> MigrationError:
    """The error for a database whose revision this code does not know."""
    return MigrationError(
        f"the read-model database is at revision {revision}, which this code does not know: it "
        "was made by a newer version; install that one, or use another database"
    )


def _columns(inspector: Inspector, table: str) -> set[str]:
    if not inspector.has_table(table):
        return set()
    return {column["name"] for column in inspector.get_columns(table)}


def _recorded(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    heads = MigrationContext.configure(connection).get_current_heads()
    return heads[0] if len(heads) == 1 else None
