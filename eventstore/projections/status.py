"""The status of projections: from their checkpoints, and what the server says about the log.

What is in the database is known without a running service; what only the server knows is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from eventstore.client.client import Client
from eventstore.errors import ClientError, ConfigurationError, TopologyError
from eventstore.jetstream.api import log_end
from eventstore.messages.envelope import utc_now
from eventstore.messages.subjects import Subjects
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import Locks, locks_of
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.shadow import shadow_position
from eventstore.service.runtime_config import PAUSED, RuntimeConfig

_RECENT = timedelta(seconds=15)


class ServerFacts(Struct, frozen=True):
    """Facts from the server: the log's end and what is paused; `problem` is why any is unknown."""

    log_end: int | None = None
    paused: Sequence[str] = ()
    problem: str | None = None


class ProjectionStatus(Struct, frozen=True, kw_only=True):
    """The status of a projection.

    `version` is the code's, `rows_version` the one that made the rows; `lag` is events, None if
    the log's end is unknown; `rate` is events a second, 0 if it has not moved recently;
    `rebuilt_to` is the position of a shadow, None if there is none. `owner` and `rebuilder` are
    the processes that keep the rows up to date, and that build new ones.
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


async def statuses(
    database: Database, projections: Sequence[Projection], facts: ServerFacts
) -> list[ProjectionStatus]:
    """The status of each of these projections; raises SQLAlchemy's errors."""
    async with locks_of(database) as locks:
        return [await _status(database, locks, facts, each) for each in projections]


async def server_facts(client: Client, subjects: Subjects) -> ServerFacts:
    """What the server knows; what it does not say is unknown, with the reason."""
    try:
        end = await log_end(client, subjects)
        try:
            paused = await RuntimeConfig(client, subjects).get(PAUSED)
        except ConfigurationError as error:
            return ServerFacts(log_end=end, problem=f"paused or not is unknown: {error}")
    except (ClientError, TopologyError) as error:
        return unknown_facts(error)
    return ServerFacts(log_end=end, paused=paused if isinstance(paused, list) else ())


def unknown_facts(error: Exception) -> ServerFacts:
    """The facts where the server cannot be asked."""
    return ServerFacts(problem=f"lag unknown: {error}")


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
    is_moving = known is not None and utc_now() - known.updated_at < _RECENT
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
    """The first of these that is true; the last one otherwise."""
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
