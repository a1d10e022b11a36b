"""Migrations: tables of a read-model database are upgraded to the newest revision, or checked.

Alembic does the work, without an ini file, in the transaction of the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from eventstore.errors import MigrationError, SchemaBusy
from eventstore.projections.database.backends import cause_of, is_transient
from eventstore.projections.database.recorded import recorded_revisions
from eventstore.projections.table_names import is_reserved

if TYPE_CHECKING:  # who migrates nothing does not load Alembic
    from alembic.config import Config

# Alembic hands its context to the scripts through module globals.
_one_at_a_time = threading.Lock()

_LOCK = 0x6576_656E_7473  # arbitrary, but must never change
"""PostgreSQL's advisory lock that excludes concurrent migrations of the same database."""

_Step = Callable[["Config", str], None]


class Revisions(NamedTuple):
    """The revision of some tables, None before the first, and the newest that this code knows.

    `is_newer` if a newer release has migrated them, in a way that leaves them usable by this one.
    """

    found: str | None
    newest: str
    is_newer: bool = False

    @property
    def is_newest(self) -> bool:
        """Whether there is nothing to migrate."""
        return self.is_newer or self.found == self.newest


class Migrations:
    """The migrations of an application's own tables: an Alembic environment.

        Database("rows.sqlite", migrations=Migrations("shop/migrations"))

    `scripts` is the directory with Alembic's `env.py`, which must run the migrations on the
    connection `context.config.attributes["connection"]`, in whose transaction it is called, and
    leave it open; `version_table` is where it records the revision. Raises `MigrationError` if
    there is no `env.py`, or the table is one of the library's.
    """

    subject = "the application's schema in the read-model database"
    """What is migrated, for messages."""

    def __init__(self, scripts: str | Path, *, version_table: str = "alembic_version") -> None:
        self.scripts = Path(scripts).absolute()
        self.version_table = version_table
        if not (self.scripts / "env.py").is_file():
            raise MigrationError(f"no migration scripts in {self.scripts}: there is no env.py")
        if is_reserved(version_table):
            raise MigrationError(
                f"migrations in {self.scripts}: the version table is named {version_table}, as if "
                "it were one of the library's; rename it"
            )

    def newest(self) -> str:
        """The newest revision that the scripts know."""
        return _known(self.scripts).newest

    def config(self, connection: Connection | None = None) -> Config:
        """Alembic's configuration, with the connection to migrate, if any."""
        made = _config(self.scripts)
        made.attributes["connection"] = connection
        return made

    def upgrade(self, connection: Connection) -> None:
        """Upgrade the tables to the newest revision, if they are older.

        All steps are in the transaction of the caller. Raises `MigrationError` for a database newer
        than this code, or for a step that failed, `SchemaBusy`, and transient errors of the
        database as they are.
        """
        self._run(connection, "heads", self._upgrade)

    def downgrade(self, connection: Connection, revision: str = "base") -> None:
        """Downgrade to a revision, dropping what came after it; raises as `upgrade`."""
        from alembic import command

        self._run(connection, revision, command.downgrade)

    def check(self, connection: Connection) -> None:
        """Raise `MigrationError` unless the tables are at the newest revision."""
        at = self.revisions(connection)
        if not at.is_newest:
            raise MigrationError(
                f"{self.subject} is at revision {at.found or 'none'}, this code needs "
                f"{at.newest}; migrate it first, with `eventstore migrate`"
            )

    def revisions(self, connection: Connection) -> Revisions:
        """The revision of the tables, and the newest.

        Raises `MigrationError` if one that has to be known is none of the scripts'.
        """
        known, found = _known(self.scripts), self.found(connection)
        for revision in self.required(connection):
            if revision not in known.all:
                raise self.unknown(revision)
        is_newer = not known.all.issuperset(found)
        return Revisions(_joined(found), known.newest, is_newer=is_newer)

    def found(self, connection: Connection) -> tuple[str, ...]:
        """The revisions that the database records: one, or one for each branch of the scripts."""
        return recorded_revisions(connection, self.version_table)

    def required(self, connection: Connection) -> tuple[str, ...]:
        """The revisions that code must know to use the tables: those that are recorded."""
        return self.found(connection)

    def unknown(self, revision: str) -> MigrationError:
        """The error for a revision that is none of the scripts'."""
        return MigrationError(
            f"{self.subject} is at revision {revision}, which this code does not know: it was "
            f"made by a newer version, or {self.version_table} belongs to another program; "
            "install that version, or use another version table, or another database"
        )

    def _upgrade(self, config: Config, revision: str) -> None:
        from alembic import command

        command.upgrade(config, revision)

    def _run(self, connection: Connection, revision: str, step: _Step) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        self.revisions(connection)
        # Waiting here could block the event loop that the holder of the lock needs.
        if not _one_at_a_time.acquire(blocking=False):
            raise SchemaBusy("another read-model database is being migrated in this process")
        try:
            step(self.config(connection), revision)
        except MigrationError:
            raise
        except Exception as error:  # the scripts are anybody's
            if is_transient(error):
                raise
            raise MigrationError(f"migrating to {revision} failed: {_cause(error)}") from error
        finally:
            _one_at_a_time.release()


def _cause(error: Exception) -> str:
    from alembic.util import CommandError

    is_named = isinstance(error, CommandError | SQLAlchemyError)
    return str(cause_of(error)) if is_named else repr(error)


class _Known(NamedTuple):
    """What scripts know: all their revisions, and the newest."""

    all: frozenset[str]
    newest: str


@cache
def _known(scripts: Path) -> _Known:
    """Read the scripts, once in a process, which runs each of them."""
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory.from_config(_config(scripts))
    revisions = frozenset(script.revision for script in directory.walk_revisions())
    return _Known(revisions, _joined(directory.get_heads()) or "none")


def _config(scripts: Path) -> Config:
    from alembic.config import Config

    made = Config()
    # The value is subject to interpolation, and a path may hold a per cent sign.
    made.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return made


def _joined(revisions: Iterable[str]) -> str | None:
    return ", ".join(sorted(revisions)) or None
