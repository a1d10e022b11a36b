"""The read models of the service: how subcommands find a projection, and open the database."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from eventstore.cli.output.terminal import program
from eventstore.cli.session import Session
from eventstore.errors import ConfigurationError
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection

ProjectionName = Annotated[str, typer.Argument(metavar="NAME", help="As printed by list.")]
ProjectionNames = Annotated[list[str], typer.Argument(metavar="NAME", help="As printed by list.")]


def read_model(session: Session) -> Database:
    """The database of the settings, not opened, with the migrations of the application."""
    location = session.settings.read_model.database
    return Database(location, migrations=session.app.migrations)


@asynccontextmanager
async def open_read_model(session: Session) -> AsyncIterator[Database]:
    """The read model, with the schema this code needs.

    Raises `ConfigurationError` if there is none, and `MigrationError`, saying what to do.
    """
    advice = f"`{program()} serve` creates it; or name another with --database"
    database = read_model(session)
    if not is_there(database):
        raise ConfigurationError(f"there is no read model {database.name}; {advice}")
    async with database:
        await database.check_schema()
        yield database


def projections_named(session: Session, names: Sequence[str]) -> list[Projection]:
    """The projections with these names, each once; raises as `projection_named` does."""
    return [projection_named(session, name) for name in dict.fromkeys(names)]


def projection_named(session: Session, name: str) -> Projection:
    """The projection of a name; raises `ConfigurationError`, which names the known ones."""
    known = {each.name: each for each in session.projections}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        raise ConfigurationError(
            f"there is no projection {name!r}; {advice}there are {', '.join(known)}"
        )
    return known[name]


def is_there(database: Database) -> bool:
    """Whether the database exists; True for one that is no file, which is known when it opens."""
    return database.path is None or database.path.exists()
