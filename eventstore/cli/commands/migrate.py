"""`eventstore migrate`: migrate the read model's schema, or check it."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import DatabaseSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.read_models import read_model
from eventstore.projections.database.schema import Revisions


async def migrate(
    session: DatabaseSession,
    check: Annotated[
        bool, typer.Option("--check", help="Only report, and change nothing (status 1 if behind).")
    ] = False,
    json: Json = False,
) -> None:
    """Migrate the read model's schema to the newest revision.

    That is the library's tables, and the application's, if it has migrations. No server is needed.
    Ends with status 0 if the schema is at the newest revision, 1 if it is behind and was only
    checked, 2 for an error; nothing is changed then. `serve` migrates when it starts.
    """
    database = read_model(session)
    library, application = await database.revisions()
    is_newest = library.is_newest and (application is None or application.is_newest)
    migrated = not is_newest and not check
    if migrated:
        async with database:
            await database.migrate()
    if json:
        say_json({"database": database.name, **_fields(library, application), "migrated": migrated})
    else:
        say(f"read model {database.name}: {_revision(library, check)}")
        if application is not None:
            say(f"tables of the application: {_revision(application, check)}")
    raise typer.Exit(0 if is_newest or migrated else 1)


def _fields(library: Revisions, application: Revisions | None) -> dict[str, object]:
    own: dict[str, object] = {"from": library.found, "to": library.newest}
    if application is None:
        return own
    return {**own, "application": {"from": application.found, "to": application.newest}}


def _revision(before: Revisions, check: bool) -> str:
    found, newest = before.found or "none", before.newest
    if before.is_newer:
        return f"is at revision {found}, of a newer release, which this one can use"
    if before.is_newest:
        return f"is at revision {found} already"
    if check:
        return f"is at revision {found}, this code needs {newest}"
    return f"migrated from revision {found} to {newest}"
