"""What projections have parked: seen, tried again through the code as it is now, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import Connection

from eventstore.errors import CorruptLog, NotParked
from eventstore.messages.events import LogEvent, RecordedEvent, UnreadEvent
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.checkpoint import VersionChanged
from eventstore.projections.database.database import Database
from eventstore.projections.database.parking import AggregateKey, ParkedEvent
from eventstore.projections.projection import Projection
from eventstore.projections.worker.apply import PoisonEvent, execute
from eventstore.store.store import EventStore

__all__ = ["ParkedEvent", "RetryResult", "discard", "parked_events", "retry"]

PATIENCE = 30.0
MOST_AT_ONCE = 500


class RetryResult(Struct, frozen=True):
    """What became of a retry: the events that are in the rows now, and those still parked."""

    retried: list[ParkedEvent]
    left: list[ParkedEvent]


async def parked_events(database: Database, projection: str | None = None) -> list[ParkedEvent]:
    """What is parked, in the order of the log; of all projections unless one is named."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(parking.list_parked, projection)


async def retry(
    store: EventStore, database: Database, projection: Projection, position: int | None = None
) -> RetryResult:
    """Apply parked events by the code as it is now, in the order of each aggregate.

    All of a projection's, or where a `position` is given, those of the aggregate of the event
    that is parked there. An aggregate's events up to the first that fails again are in the rows
    afterwards, in the same transaction in which they are parked no longer; that one is tried once
    more than before and keeps its new error. No reaction follows. The projection's worker may be
    at work meanwhile, here or in another process.

    Raises `NotParked` for such a position, `VersionChanged` where the rows were made by another
    version of the projection, `CorruptLog` where the log does not have an event that is parked,
    `DatabaseUnavailable`, and what the store raises.
    """
    parked = await parked_events(database, projection.name)
    keys = dict.fromkeys((each.aggregate, each.aggregate_id) for each in parked)
    if position is not None:
        named = next((each for each in parked if each.position == position), None)
        if named is None:
            raise NotParked(position, f"projection {projection.name} has parked nothing there")
        keys = {(named.aggregate, named.aggregate_id): None}
    retried: list[ParkedEvent] = []
    for key in keys:
        retried += await _retry_aggregate(store, database, projection, key)
    left = await parked_events(database, projection.name)
    return RetryResult(
        retried, [each for each in left if (each.aggregate, each.aggregate_id) in keys]
    )


async def discard(database: Database, projection: str, position: int) -> None:
    """Give up a parked event for good: it will be missing in the rows, and no retry finds it.

    What waits behind it stays parked until it is retried. Raises `NotParked`.
    """

    def work(connection: Connection) -> bool:
        checkpoint.lock(connection, projection)
        return parking.forget(connection, projection, position)

    if not await database.transact(work, retry_timeout=PATIENCE):
        raise NotParked(position, f"projection {projection} has parked nothing there")


class _Stored(NamedTuple):
    """An event of the log, and the parts that it is read as, or itself where it has no data."""

    position: int
    parts: Sequence[LogEvent]

    @classmethod
    def of(cls, found: list[RecordedEvent] | UnreadEvent) -> _Stored:
        parts: Sequence[LogEvent] = [found] if isinstance(found, UnreadEvent) else found
        return cls(parts[0].position, parts)


class _Step(NamedTuple):
    applied: list[ParkedEvent]
    has_failed: bool


async def _retry_aggregate(
    store: EventStore, database: Database, projection: Projection, key: AggregateKey
) -> list[ParkedEvent]:
    """Until none is left, for more may be parked meanwhile; or until one fails."""
    applied: list[ParkedEvent] = []
    while events := await _events(store, database, projection, key):

        def work(connection: Connection, events: Sequence[_Stored] = events) -> _Step:
            return _apply_in_order(connection, projection, key, events)

        step = await database.transact(work, retry_timeout=PATIENCE)
        applied += step.applied
        if step.has_failed:
            break
    return applied


async def _events(
    store: EventStore, database: Database, projection: Projection, key: AggregateKey
) -> list[_Stored]:
    """The oldest events of an aggregate that are parked, from the log."""
    async with database.engine.connect() as connection:
        parked = await connection.run_sync(parking.list_parked, projection.name, key)
    wanted = {each.position for each in parked[:MOST_AT_ONCE]}
    events: list[_Stored] = []
    async with aclosing(store.read_whole(*key, leader=True)) as history:
        async for found in history:
            stored = _Stored.of(found)
            if stored.position in wanted:
                events.append(stored)
            if len(events) == len(wanted):
                return events
    missing = min(wanted.difference(event.position for event in events), default=None)
    if missing is not None:
        raise CorruptLog(f"{key[0]} {key[1]} has no event at position {missing}, which is parked")
    return events


def _apply_in_order(
    connection: Connection,
    projection: Projection,
    key: AggregateKey,
    events: Sequence[_Stored],
) -> _Step:
    # Its worker cannot park or apply anything from here on.
    known = checkpoint.lock(connection, projection.name)
    if known is not None and known.version != projection.version:
        raise VersionChanged(projection, known)
    parked = {each.position: each for each in parking.list_parked(connection, projection.name, key)}
    applied: list[ParkedEvent] = []
    for event in events:
        if event.position not in parked:
            continue  # another retry was faster
        try:
            with connection.begin_nested():
                for part in event.parts:
                    execute(connection, projection, part)
        except PoisonEvent as poison:
            parking.failed_again(connection, projection.name, event.position, poison.reason)
            return _Step(applied, has_failed=True)
        parking.forget(connection, projection.name, event.position)
        applied.append(parked[event.position])
    return _Step(applied, has_failed=False)
