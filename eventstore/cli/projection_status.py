"""How each projection is: from its rows' checkpoint, from the log, and from what is configured.

What the database knows is known without a running service; what the server knows is left open
where it cannot be reached.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import Connection, func, select

from eventstore import nix
from eventstore.cli.connecting import connected, log_end
from eventstore.cli.read_models import read_models
from eventstore.cli.terminal import program
from eventstore.client.client import Client
from eventstore.config import Settings
from eventstore.errors import ClientError, ConfigurationError, MigrationError, TopologyError
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import StoredEvent
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import Locks, locks_of
from eventstore.projections.database.parking import ParkedEvent
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.shadow import shadow_position
from eventstore.service.runtime_config import RuntimeConfig

__all__ = [
    "PAUSED",
    "ProjectionDetails",
    "ProjectionStatus",
    "details",
    "is_there",
    "opened_read_model",
    "projection_named",
    "projections_named",
    "statuses",
]

PAUSED = "projections.paused"

_LATELY = timedelta(seconds=15)
_FIRST_PARKED = 5


class ServerFacts(Struct, frozen=True):
    """What the server knows: the log's end and what is paused; `problem` is what is unknown."""

    log_end: int | None = None
    paused: Sequence[str] = ()
    problem: str | None = None


class ProjectionStatus(Struct, frozen=True, kw_only=True):
    """How a projection is.

    `version` is that of the code, `rows_version` that which made the rows; `lag` is events, None
    where the log's end is not known; `rate` is events a second, 0 where it has not moved lately;
    `rebuilt_to` is how far a shadow has come, None where there is none. `owner` and `rebuilder`
    are the processes that keep the rows up to date, and that build new ones.
    """

    name: str
    state: str
    version: int
    rows_version: int | None
    position: int
    log_end: int | None
    lag: int | None
    rate: float
    error: str | None
    parked: int
    rebuilt_to: int | None
    owner: str | None
    rebuilder: str | None


class ProjectionDetails(Struct, frozen=True, kw_only=True):
    """All that is known of a projection; `tables` have their numbers of rows."""

    status: ProjectionStatus
    tables: dict[str, int]
    event_types: list[str]
    epoch: int | None
    updated_at: datetime | None
    log: str | None
    first_parked: list[ParkedEvent]
    problem: str | None


@asynccontextmanager
async def opened_read_model(settings: Settings) -> AsyncIterator[Database]:
    """The read model, with the schema this code needs.

    Raises `ConfigurationError` where there is none, and `MigrationError`, saying what to do.
    """
    advice = f"`{program()} serve` makes it; or name another with --database"
    database = Database(settings.read_model.database)
    if not is_there(database):
        raise ConfigurationError(f"there is no read model {database.name}; {advice}")
    async with database:
        try:
            await database.check_schema()
        except MigrationError as error:
            raise MigrationError(f"{error}: `{program()} migrate`") from error
        yield database


def is_there(database: Database) -> bool:
    """Whether the database need not be made first; one that is no file is asked when opened."""
    return database.path is None or database.path.exists()


def projections_named(names: Sequence[str]) -> list[Projection]:
    """The projections with these names, each once; raises as `projection_named` does."""
    return [projection_named(name) for name in dict.fromkeys(names)]


def projection_named(name: str) -> Projection:
    """The projection of a name; raises `ConfigurationError`, which names the known ones."""
    known = {each.name: each for each in read_models()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        raise ConfigurationError(
            f"there is no projection {name!r}; {advice}there are {', '.join(known)}"
        )
    return known[name]


async def statuses(settings: Settings) -> tuple[list[ProjectionStatus], str | None]:
    """How all projections are, and what is not known of them and why, if anything is not.

    Raises as `opened_read_model` does.
    """
    async with opened_read_model(settings) as database:
        facts = await _server_facts(settings)
        async with locks_of(database) as locks:
            found = [await _status(database, locks, facts, each) for each in read_models()]
    return found, facts.problem


async def details(settings: Settings, projection: Projection) -> ProjectionDetails:
    """All that is known of one; raises as `opened_read_model` does."""
    async with opened_read_model(settings) as database:
        facts = await _server_facts(settings)
        async with locks_of(database) as locks:
            status = await _status(database, locks, facts, projection)
        async with database.engine.connect() as connection:
            return await connection.run_sync(_details, projection, status, facts.problem)


async def _status(
    database: Database, locks: Locks, facts: ServerFacts, projection: Projection
) -> ProjectionStatus:
    name = projection.name
    async with database.engine.connect() as connection:
        known = await connection.run_sync(checkpoint.read, name)
        parked = await connection.run_sync(parking.count, [name])
    rebuilt_to = await shadow_position(database, projection)
    owner = await locks.holder(f"projection-{name}")
    rebuilder = await locks.holder(f"rebuild-{name}")
    position = 0 if known is None else known.position
    lag = None if facts.log_end is None else max(0, facts.log_end - position)
    state = _state(projection, known, lag, facts, is_owned=owner is not None)
    return ProjectionStatus(
        name=name,
        state=state if rebuilder is None else _rebuilding(rebuilt_to, facts.log_end),
        version=projection.version,
        rows_version=None if known is None else known.version,
        position=position,
        log_end=facts.log_end,
        lag=lag,
        rate=0.0 if owner is None else _rate(known),
        error=None if known is None else known.error,
        parked=parked.get(name, 0),
        rebuilt_to=rebuilt_to,
        owner=owner,
        rebuilder=rebuilder,
    )


def _rate(known: checkpoint.Checkpoint | None) -> float:
    is_moving = known is not None and utc_now() - known.updated_at < _LATELY
    return known.rate if known is not None and is_moving else 0.0


def _rebuilding(rebuilt_to: int | None, log_end: int | None) -> str:
    if rebuilt_to is None or log_end is None:
        return "rebuilding"
    return f"rebuilding {100 * rebuilt_to // max(log_end, rebuilt_to, 1)} %"


def _state(
    projection: Projection,
    known: checkpoint.Checkpoint | None,
    lag: int | None,
    facts: ServerFacts,
    *,
    is_owned: bool,
) -> str:
    """The first of these that is true; the last is left where nothing else is."""
    states = {
        "never used": known is None,
        "failed": known is not None and known.error is not None,
        "version changed": known is not None and known.version != projection.version,
        "paused": projection.name in facts.paused,
        "stopped": not is_owned,
        "running": lag is None,
        "catching up": bool(lag),
        "live": True,
    }
    return next(state for state, is_true in states.items() if is_true)


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
    """What its handlers are annotated with."""
    if projection.takes_stored:
        return [StoredEvent.__name__]
    return [event.__name__ for event in projection.event_types]


async def _server_facts(settings: Settings) -> ServerFacts:
    try:
        async with connected(settings) as client:
            return await _asked(client, settings)
    except (ClientError, TopologyError, ConfigurationError) as error:
        return ServerFacts(problem=f"lag unknown: {error}")


async def _asked(client: Client, settings: Settings) -> ServerFacts:
    codec = nix.domain(settings.nats.subject_prefix).codec
    end = await log_end(client, codec)
    try:
        paused = await RuntimeConfig(client, codec.subjects).get(PAUSED)
    except ConfigurationError as error:
        return ServerFacts(log_end=end, problem=f"paused or not is unknown: {error}")
    return ServerFacts(log_end=end, paused=paused if isinstance(paused, list) else ())
