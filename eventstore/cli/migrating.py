"""`eventstore migrate`: the read model's schema, brought to the newest revision or looked at."""

from __future__ import annotations

import msgspec

from eventstore.cli.terminal import say
from eventstore.errors import MigrationError
from eventstore.projections.database.database import Database
from eventstore.projections.database.schema import Revisions

__all__ = ["migrate"]


async def migrate(location: str, *, only_check: bool, json: bool) -> bool:
    """Migrate the database, or only look, and say what was found; True if it is up to date now.

    Raises `MigrationError` for a database that is newer than this code or none of a read model,
    `ConfigurationError` and `DatabaseUnavailable` for one that cannot be used.
    """
    database = Database(location)
    before = await database.revisions()
    if before.is_foreign:
        raise MigrationError(
            f"{database.name} has tables already, and none of a read model: name another database"
        )
    is_wanted = not before.is_newest and not only_check
    if is_wanted:
        async with database:
            await database.migrate()
    shown = _json if json else _line
    say(shown(database.name, before, is_wanted))
    return before.is_newest or is_wanted


def _line(name: str, before: Revisions, migrated: bool) -> str:
    found, newest = before.found or "none", before.newest
    if migrated:
        return f"read model {name}: migrated from revision {found} to {newest}"
    if before.is_newest:
        return f"read model {name}: is at revision {found} already"
    return f"read model {name}: is at revision {found}, this code needs {newest}"


def _json(name: str, before: Revisions, migrated: bool) -> str:
    fields = {
        "database": name,
        "from": before.found,
        "to": before.newest,
        "migrated": migrated,
    }
    return msgspec.json.encode(fields).decode()
