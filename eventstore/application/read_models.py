"""The read models of an application: its projections, their database, and their checkpoints."""

from __future__ import annotations

from functools import partial

from eventstore.application.declaration import Declaration
from eventstore.application.start import ReadCheckpoints
from eventstore.config import Settings
from eventstore.projections.audit import audit
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.recovery.evidence import read_checkpoints
from eventstore.telemetry import NO_TELEMETRY, Telemetry


def projections_of(app: Declaration) -> tuple[Projection, ...]:
    """The projections of an application, and the audit index."""
    return (*app.projections, audit)


def read_model_of(
    app: Declaration, settings: Settings, telemetry: Telemetry = NO_TELEMETRY
) -> Database:
    """Its database, of the settings, to be opened."""
    location = settings.read_model.database
    return Database(location, migrations=app.migrations, telemetry=telemetry)


def checkpoints_of(
    app: Declaration, settings: Settings, database: Database | None = None
) -> ReadCheckpoints:
    """What reads the checkpoints of the read models; without a database, opens one meanwhile.

    It brings their tables up to date first, as far as they are not the team's own.
    """

    async def read(database: Database) -> list[Checkpoint]:
        await database.migrate()
        await database.create_tables(app.own_tables())
        return await read_checkpoints(database, projections_of(app))

    async def read_alone() -> list[Checkpoint]:
        async with read_model_of(app, settings) as opened:
            return await read(opened)

    return read_alone if database is None else partial(read, database)
