"""The status of projections, as the command line knows it: with or without a running service."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, func, select

from eventstore.cli.read_models import open_read_model
from eventstore.cli.session import Session
from eventstore.errors import ClientError, ConfigurationError, TopologyError
from eventstore.messages.events import StoredEvent
from eventstore.projections import status as library
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.parking import ParkedEvent
from eventstore.projections.projection import Projection
from eventstore.projections.status import (
    ProjectionStatus,
    ServerFacts,
    server_facts,
    unknown_facts,
)

_FIRST_PARKED = 5


class ProjectionDetails(Struct, frozen=True, kw_only=True):
    """All that is known of a projection; `tables` maps names to numbers of rows."""

    status: ProjectionStatus
    tables: dict[str, int]
    event_types: list[str]
    epoch: int | None
    updated_at: datetime | None
    log: str | None
    first_parked: list[ParkedEvent]
    problem: str | None


async def statuses(session: Session) -> tuple[list[ProjectionStatus], str | None]:
    """The status of every projection, and what is unknown and why, or None.

    Raises as `open_read_model` does.
    """
    async with open_read_model(session) as database:
        facts = await _server_facts(session)
        return await library.statuses(database, session.projections, facts), facts.problem


async def details(session: Session, projection: Projection) -> ProjectionDetails:
    """All that is known of a projection; raises as `open_read_model` does."""
    async with open_read_model(session) as database:
        facts = await _server_facts(session)
        (status,) = await library.statuses(database, [projection], facts)
        async with database.engine.connect() as connection:
            return await connection.run_sync(_details, projection, status, facts.problem)


def _details(
    connection: Connection,
    projection: Projection,
    status: ProjectionStatus,
    problem: str | None,
) -> ProjectionDetails:
    known = checkpoint.read(connection, projection.name)
    counts = {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in projection.tables
    }
    return ProjectionDetails(
        status=status,
        tables=counts,
        event_types=_types(projection),
        epoch=None if known is None else known.epoch,
        updated_at=None if known is None else known.updated_at,
        log=None if known is None else known.log,
        first_parked=parking.list_parked(connection, projection.name)[:_FIRST_PARKED],
        problem=problem,
    )


def _types(projection: Projection) -> list[str]:
    if projection.takes_stored:
        return [StoredEvent.__name__]
    return [event.__name__ for event in projection.event_types]


async def _server_facts(session: Session) -> ServerFacts:
    try:
        async with session.connect() as client:
            return await server_facts(client, session.subjects)
    except (ClientError, TopologyError, ConfigurationError) as error:
        return unknown_facts(error)
