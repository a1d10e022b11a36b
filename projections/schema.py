"""The schema of the read-model database: brought to the newest revision, or checked to be there.

Alembic does the work, without an ini file; its scripts are in `migrations/`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from eventstore.errors import MigrationError

__all__ = ["check", "config", "downgrade", "migrations", "upgrade"]

# Alembic hands its context to the scripts through module globals.
_one_at_a_time = threading.Lock()

_Step = Callable[[Config, str], None]


def migrations() -> Path:
    """The directory of the migration scripts, in a wheel or in a checkout.

    Raises `MigrationError` where neither has it.
    """
    package = Path(__file__).resolve().parent
    for directory in (package / "migrations", package.parent / "migrations"):
        if (directory / "env.py").is_file():
            return directory
    raise MigrationError(f"no migration scripts in {package} or beside it; is it installed whole?")


def config(connection: Connection) -> Config:
    """Alembic's configuration for one connection."""
    made = Config()
    # The value is subject to interpolation, and a path may hold a per cent sign.
    made.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision; nothing happens where it is there already.

    All steps belong to the transaction of the caller. Raises `MigrationError` for a database
    newer than this code, or for a step that failed.
    """
    _known(connection)
    _run(connection, "head", command.upgrade)


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Take the schema back to a revision, dropping what came after it; raises `MigrationError`."""
    _known(connection)
    _run(connection, revision, command.downgrade)


def check(connection: Connection) -> None:
    """Raise `MigrationError` unless the schema is at the newest revision."""
    scripts, found = _known(connection)
    expected = scripts.get_current_head()
    if found != expected:
        raise MigrationError(
            f"the read-model database is at revision {found or 'none'}, this code needs "
            f"{expected}; migrate it first"
        )


def _known(connection: Connection) -> tuple[ScriptDirectory, str | None]:
    """The scripts, and the revision found; refused where no script has made it."""
    scripts = ScriptDirectory.from_config(config(connection))
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise MigrationError(
            f"the read-model database is at revision {found}, which this code does not know: "
            "it was made by a newer version; install that one, or use another database"
        )
    return scripts, found


def _run(connection: Connection, revision: str, step: _Step) -> None:
    with _one_at_a_time:
        try:
            step(config(connection), revision)
        except (CommandError, SQLAlchemyError) as error:
            raise MigrationError(f"migrating to {revision} failed: {error}") from error
