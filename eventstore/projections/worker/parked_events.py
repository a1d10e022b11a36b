"""What projections have parked: listed, retried by the current code, or discarded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

from msgspec import Struct
from sqlalchemy import Connection

from eventstore.errors import CorruptLog, NotParked, PoisonEvent, VersionChanged
from eventstore.messages.events import LogEvent, UnreadEvent
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.database import Database
from eventstore.projections.database.parking import AggregateKey, ParkedEvent
from eventstore.projections.projection import Projection
from eventstore.projections.worker.apply import execute
from eventstore.store.store import EventStore

RETRY_TIMEOUT = 30.0
MAX_EVENTS = 500

_Parts = Sequence[LogEvent]
"""An event of the log as the parts that it is read as; itself if it has no data."""


class RetryResult(Struct, frozen=True):
    """The result of a retry: the events that are in the rows now, and those still parked."""

    retried: list[ParkedEvent]
    left: list[ParkedEvent]


async def parked_events(database: Database, projection: str | None = None) -> list[ParkedEvent]:
    """What is parked, in the order of the log; of all projections unless one is named."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(parking.list_parked, projection)


async def retry(
    store: EventStore, database: Database, projection: Projection, position: int | None = None
) -> RetryResult:
    """Apply parked events by the current code, in the order of each aggregate.

    All of a projection's, or with a `position`, those of the aggregate of the event that is parked
    there. An aggregate's events up to the first that fails again are in the rows afterwards, in
    the same transaction in which they are no longer parked; for that one, the new error and one
    more try are recorded. No reaction follows. The projection's worker may run meanwhile, in this
    or another process.

    Raises `NotParked` if nothing is parked at the `position`, `VersionChanged` if the rows were
    made by another version of the projection, `CorruptLog` if the log lacks an event that is
    parked, `DatabaseUnavailable`, and what the store raises.
    """
    parked = await parked_events(database, projection.name)
    keys = dict.fromkeys(each.key for each in parked)
    if position is not None:
        named = next((each for each in parked if each.position == position), None)
        if named is None:
            raise NotParked(position, f"projection {projection.name} has parked nothing there")
        keys = {named.key: None}
    retried: list[ParkedEvent] = []
    for key in keys:
        retried += await _retry_aggregate(store, database, projection, key)
    left = await parked_events(database, projection.name)
    return RetryResult(retried, [each for each in left if each.key in keys])


async def discard(database: Database, projection: str, position: int) -> None:
    """Discard a parked event: it stays missing in the rows, and no retry finds it.

    Later events of its aggregate stay parked until they are retried. Raises `NotParked`.
    """

    def work(connection: Connection) -> bool:
        checkpoint.lock(connection, projection)
        return parking.forget(connection, projection, position)

    if not await database.transact(work, retry_timeout=RETRY_TIMEOUT):
        raise NotParked(position, f"projection {projection} has parked nothing there")


async def _retry_aggregate(
    store: EventStore, database: Database, projection: Projection, key: AggregateKey
) -> list[ParkedEvent]:
    """Retry until no event is left, for more may be parked meanwhile; or until one fails."""
    applied: list[ParkedEvent] = []
    while events := await _events(store, database, projection, key):
        some, has_failed = await database.transact(
            partial(_apply_in_order, projection=projection, key=key, events=events),
            retry_timeout=RETRY_TIMEOUT,
        )
        applied += some
        if has_failed:
            break
    return applied


async def _events(
    store: EventStore, database: Database, projection: Projection, key: AggregateKey
) -> list[_Parts]:
    """The oldest parked events of an aggregate, read from the log."""
    async with database.engine.connect() as connection:
        parked = await connection.run_sync(parking.list_parked, projection.name, key)
    wanted = {each.position for each in parked[:MAX_EVENTS]}
    events: list[_Parts] = []
    async with aclosing(store.read_whole(*key, leader=True)) as history:
        async for found in history:
            parts: _Parts = [found] if isinstance(found, UnreadEvent) else found
            if parts[0].position in wanted:
                events.append(parts)
            if len(events) == len(wanted):
                return events
    if missing := wanted.difference(parts[0].position for parts in events):
        raise CorruptLog(
            f"{key[0]} {key[1]} has no event at position {min(missing)}, which is parked"
        )
    return events


def _apply_in_order(
    connection: Connection, projection: Projection, key: AggregateKey, events: Sequence[_Parts]
) -> tuple[list[ParkedEvent], bool]:
    """The events that are applied, and whether one after them has failed."""
    # From here on, its worker cannot park or apply anything.
    known = checkpoint.lock(connection, projection.name)
    if known is not None and known.version != projection.version:
        raise VersionChanged(projection.name, projection.version, known)
    parked = {each.position: each for each in parking.list_parked(connection, projection.name, key)}
    applied: list[ParkedEvent] = []
    for parts in events:
        position = parts[0].position
        if position not in parked:
            continue  # another retry was faster
        try:
            with connection.begin_nested():
                for part in parts:
                    execute(connection, projection, part)
        except PoisonEvent as poison:
            parking.record_retry(connection, projection.name, position, poison.reason)
            return applied, True
        parking.forget(connection, projection.name, position)
        applied.append(parked[position])
    return applied, False
