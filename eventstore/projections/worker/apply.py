"""Apply events to the tables of projections, inside the caller's transaction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import Connection

from eventstore.concurrency.chunks import chunked
from eventstore.errors import PoisonEvent, ProjectionFailed
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent, RecordedEvent
from eventstore.messages.text import storable
from eventstore.messages.types import Event
from eventstore.projections.database import checkpoint, parking, prepared
from eventstore.projections.database.backends import cause_of, is_transient
from eventstore.projections.database.checkpoint import ExpectedCheckpoint
from eventstore.projections.database.parking import AggregateKey
from eventstore.projections.projection import BoundStatement, Change, Projection
from eventstore.projections.worker.batches import arranged
from eventstore.store.log_mark import LogMark

_MAX_EVENTS = 500
"""How many events are batched together at most; the event loop may have to wait for that."""

_SAVEPOINT = 2
"""How many statements a savepoint costs; SQLite also copies each page that is changed in it."""


_position = attrgetter("position")


class AppliedBatch(NamedTuple):
    """How many events a projection handled, and the positions of those it parked instead."""

    handled: int
    parked: frozenset[int]


class _TypedEvents:
    """Events in the order of the log, and the types of their data, if they have any."""

    def __init__(self, events: Sequence[LogEvent]) -> None:
        self._events = events
        self._types = [
            type(each.data) if isinstance(each, RecordedEvent) else None for each in events
        ]
        self._distinct = set(self._types)

    def taken(self, projection: Projection, after: int, until: int) -> list[LogEvent]:
        """The events in a range of positions that a projection takes."""
        events, types = self._between(after, until)
        if projection.takes_stored:
            return list(filter(projection.takes, events))
        wanted = {each for each in self._distinct if each is None or projection.wants(each)}
        if not wanted:
            return []
        return [
            event
            for event, each in zip(events, types, strict=True)
            if each in wanted and (each is not None or projection.takes(event))
        ]

    def _between(
        self, after: int, until: int
    ) -> tuple[Sequence[LogEvent], Sequence[type[Event] | None]]:
        """The events in a range, most often all of them, and their types."""
        events, types = self._events, self._types
        if events and after < events[0].position and events[-1].position <= until:
            return events, types
        first = bisect_right(events, after, key=_position)
        end = bisect_right(events, until, key=_position)
        return events[first:end], types[first:end]


def apply(
    connection: Connection,
    expected: Sequence[ExpectedCheckpoint],
    events: Sequence[LogEvent],
    until: int,
    now: datetime,
    rate: float = 0.0,
    *,
    savepoints: bool = True,
) -> list[AppliedBatch]:
    """Bring projections from where each is to the position `until`, checkpoints included.

    `events` are in the order of the log. Those that a projection has already, and those after
    `until`, are passed over; one of an aggregate with a parked event is parked, too. `rate` is how
    many events a second are processed at present. Without `savepoints` it takes less time, and a
    `ProjectionFailed` need not say because of which event.

    Raises `PoisonEvent`, `ProjectionFenced` or its `CheckpointReset`, and transient errors of the
    database as they are. The steps are numbered as in `worker`.
    """
    # 4. fence. First, because if another worker was faster, its rows would look like a poison
    # event; and from here on, nobody can retry what these projections have parked.
    seen = LogMark.of_last(events, until)
    checkpoint.move_all(connection, expected, until, now, rate, seen)
    # 5. pass, park; 6. handle
    blocked = parking.blocked(connection, [each.projection for each in expected])
    typed = _TypedEvents(events)
    return [
        _apply_one(
            connection,
            each,
            typed,
            until,
            now,
            blocked.get(each.projection.name, set()),
            savepoints=savepoints,
        )
        for each in expected
    ]


def park(
    connection: Connection, expected: ExpectedCheckpoint, poison: PoisonEvent, tries: int
) -> None:
    """Bring a projection past an event that it cannot take, which is parked; raises as `apply`."""
    now = utc_now()
    seen = LogMark.of_last([poison.recorded], poison.position)
    checkpoint.move_all(connection, [expected], poison.position, now, seen=seen)
    parking.park(
        connection, expected.projection, poison.recorded, now, error=poison.reason, tries=tries
    )


def execute(connection: Connection, projection: Projection, recorded: LogEvent) -> None:
    """Execute the changes that one event leads to.

    Raises `PoisonEvent`, and transient errors of the database as they are.
    """
    _execute_all(connection, projection, [recorded], savepoints=True)


def _apply_one(
    connection: Connection,
    expected: ExpectedCheckpoint,
    events: _TypedEvents,
    until: int,
    now: datetime,
    blocked: set[AggregateKey],
    *,
    savepoints: bool,
) -> AppliedBatch:
    projection = expected.projection
    taken = events.taken(projection, expected.position, until)
    parked: frozenset[int] = frozenset()
    if blocked:
        behind = [each for each in taken if (each.aggregate, each.aggregate_id) in blocked]
        parked = _park_all(connection, projection, behind, now)
        taken = [each for each in taken if each.position not in parked]
    for some in chunked(taken, _MAX_EVENTS):
        _execute_all(connection, projection, some, savepoints=savepoints)
    return AppliedBatch(len(taken), parked)


def _park_all(
    connection: Connection, projection: Projection, events: Sequence[LogEvent], now: datetime
) -> frozenset[int]:
    """Park events behind older ones; all parts of an event are parked as one."""
    first = {each.position: each for each in reversed(events)}
    for position in sorted(first):
        parking.park(connection, projection, first[position], now)
    return frozenset(first)


def _execute_all(
    connection: Connection,
    projection: Projection,
    events: Sequence[LogEvent],
    *,
    savepoints: bool,
) -> None:
    """Execute the changes that events lead to, in batches.

    A batch that fails does not say because of which event: then the changes are executed one by
    one, up to the first that fails; or without savepoints, the caller's transaction fails.
    """
    made: list[tuple[Change, ...]] = []
    failure: Exception | None = None
    for recorded in events:
        try:
            made.append(projection.statements(recorded))
        except Exception as error:
            failure = error
            break
    if failure is not None or not _execute_batches(connection, projection, made, savepoints):
        for recorded, changes in zip(events, made, strict=False):
            _execute(connection, projection, recorded, changes)
    if failure is not None and is_transient(failure):
        raise failure
    if failure is not None:
        raise _poison(projection, events[len(made)], failure) from failure


def _execute_batches(
    connection: Connection,
    projection: Projection,
    made: Sequence[tuple[Change, ...]],
    savepoints: bool,
) -> bool:
    """Whether all changes were executed in batches; otherwise none was."""
    changes = [change for several in made for change in several]
    cost = _SAVEPOINT if savepoints else 0
    if len(changes) <= cost:
        return False
    batches = arranged(changes)
    if len(changes) - len(batches) <= cost:
        return False
    if savepoints:
        # As text, for SQLAlchemy's own have a new name each, and are compiled each time.
        connection.exec_driver_sql("SAVEPOINT batches")
    try:
        for batch in batches:
            batch.execute(connection)
    except Exception as error:
        if is_transient(error):
            raise
        if not savepoints:
            raise ProjectionFailed(f"projection {projection.name}: {_described(error)}") from error
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT batches")
        return False
    if savepoints:
        connection.exec_driver_sql("RELEASE SAVEPOINT batches")
    return True


def _execute(
    connection: Connection, projection: Projection, recorded: LogEvent, changes: Sequence[Change]
) -> None:
    try:
        for change in changes:
            if isinstance(change, BoundStatement):
                prepared.execute(connection, change.statement, [change.values])
            else:
                connection.execute(change)
    except Exception as error:
        if is_transient(error):
            raise
        raise _poison(projection, recorded, error) from error


def _poison(projection: Projection, recorded: LogEvent, error: Exception) -> PoisonEvent:
    return PoisonEvent(projection.name, recorded, storable(_described(error)))


def _described(cause: Exception) -> str:
    """The driver's message; SQLAlchemy's would repeat the statement and all its values."""
    return f"{type(cause).__name__}: {cause_of(cause)}"
