"""`eventstore migrate`: migrate the read model's schema, or check it."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import DatabaseSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.errors import MigrationError
from eventstore.projections.database.database import Database
from eventstore.projections.database.schema import Revisions


async def migrate(
    session: DatabaseSession,
    check: Annotated[
        bool, typer.Option("--check", help="Only report, and change nothing (status 1 if behind).")
    ] = False,
    json: Json = False,
) -> None:
    """Migrate the read model's schema to the newest revision.

    No server is needed. Ends with status 0 if the schema is at the newest revision, 1 if it is
    behind and was only checked, 2 for an error; nothing is changed then. `serve` migrates when it
    starts.
    """
    database = Database(session.settings.read_model.database)
    before = await database.revisions()
    if before.is_foreign:
        raise MigrationError(
            f"{database.name} has tables already, and none of a read model: name another database"
        )
    migrated = not before.is_newest and not check
    if migrated:
        async with database:
            await database.migrate()
    if json:
        fields = {"database": database.name, "from": before.found, "to": before.newest}
        say_json({**fields, "migrated": migrated})
    else:
        say(f"read model {database.name}: {_revision(before, migrated)}")
    raise typer.Exit(0 if before.is_newest or migrated else 1)


def _revision(before: Revisions, migrated: bool) -> str:
    found, newest = before.found or "none", before.newest
    if migrated:
        return f"migrated from revision {found} to {newest}"
    if before.is_newest:
        return f"is at revision {found} already"
    return f"is at revision {found}, this code needs {newest}"
