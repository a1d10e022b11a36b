"""The schema of the read-model database: upgraded to the newest revision, or checked.

Alembic does the work, without an ini file; its scripts are in `migrations/`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from eventstore.errors import MigrationError
from eventstore.projections.database.backends import cause_of, is_transient
from eventstore.projections.database.tables import checkpoints

# Alembic hands its context to the scripts through module globals.
_one_at_a_time = threading.Lock()

_LOCK = 0x6576_656E_7473  # arbitrary, but must never change
"""PostgreSQL's advisory lock that excludes concurrent migrations of the same database."""

_OWN = "alembic_version"
"""Alembic's own table, with the revision."""

_Step = Callable[[Config, str], None]


class SchemaBusy(MigrationError, code="schema_busy", retryable=True):
    """Another database is being migrated in this process; retry a moment later."""


class Revisions(NamedTuple):
    """The revision of a schema, None before the first, and the newest that this code knows.

    `is_foreign` if there are tables, but none of them came from a migration.
    """

    found: str | None
    newest: str
    is_foreign: bool = False

    @property
    def is_newest(self) -> bool:
        """Whether there is nothing to migrate."""
        return self.found == self.newest


def migrations() -> Path:
    """The directory of the migration scripts, in a wheel or in a checkout.

    Raises `MigrationError` if neither has it.
    """
    beside = Path(__file__).resolve().parents[3]
    for directory in (beside / "projections" / "migrations", beside / "migrations"):
        if (directory / "env.py").is_file():
            return directory
    raise MigrationError(f"no migration scripts in {beside}; is the installation complete?")


def newest() -> str:
    """The newest revision that this code knows."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, with the connection to migrate, if any."""
    made = Config()
    # The value is subject to interpolation, and a path may hold a per cent sign.
    made.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Upgrade the schema to the newest revision, if it is older.

    All steps are in the transaction of the caller. Raises `MigrationError` for a database newer
    than this code, or for a step that failed, `SchemaBusy`, and transient errors of the database
    as they are.
    """
    _run(connection, "head", command.upgrade)


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Downgrade the schema to a revision, dropping what came after it; raises as `upgrade`."""
    _run(connection, revision, command.downgrade)


def check(connection: Connection) -> None:
    """Raise `MigrationError` unless the schema is at the newest revision."""
    at = revisions(connection)
    if not at.is_newest:
        raise MigrationError(
            f"the read-model database is at revision {at.found or 'none'}, this code needs "
            f"{at.newest}; migrate it first"
        )


def revisions(connection: Connection) -> Revisions:
    """The revision of the schema, and the newest.

    Raises `MigrationError` if the revision is none of the scripts'.
    """
    scripts = ScriptDirectory.from_config(config(connection))
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise MigrationError(
            f"the read-model database is at revision {found}, which this code does not know: "
            + _unknown(connection)
        )
    tables = set(inspect(connection).get_table_names())
    is_foreign = bool(tables) and _OWN not in tables
    return Revisions(found, str(scripts.get_current_head()), is_foreign)


def _unknown(connection: Connection) -> str:
    if inspect(connection).has_table(checkpoints.name):
        return "it was made by a newer version; install that one, or use another database"
    return "it belongs to another program; use another database"


def _run(connection: Connection, revision: str, step: _Step) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    revisions(connection)
    # Waiting here could block the event loop that the holder of the lock needs.
    if not _one_at_a_time.acquire(blocking=False):
        raise SchemaBusy("another read-model database is being migrated in this process")
    try:
        step(config(connection), revision)
    except (CommandError, SQLAlchemyError) as error:
        if is_transient(error):
            raise
        raise MigrationError(f"migrating to {revision} failed: {cause_of(error)}") from error
    finally:
        _one_at_a_time.release()
