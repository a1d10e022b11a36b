"""Apply events to the tables of projections, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from eventstore.errors import PoisonEvent
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent
from eventstore.projections.database import checkpoint, parking, prepared
from eventstore.projections.database.backends import cause_of, is_transient
from eventstore.projections.database.checkpoint import ExpectedCheckpoint
from eventstore.projections.database.parking import AggregateKey
from eventstore.projections.projection import BoundStatement, Change, Projection
from eventstore.projections.worker.batches import arranged
from eventstore.text import storable

_MAX_EVENTS = 500
"""How many events are batched together at most; the event loop may have to wait for that."""

_SAVEPOINT = 2
"""How many statements a savepoint costs."""


class AppliedBatch(NamedTuple):
    """How many events a projection handled, and the positions of those it parked instead."""

    handled: int
    parked: frozenset[int]


def apply(
    connection: Connection,
    expected: Sequence[ExpectedCheckpoint],
    events: Sequence[LogEvent],
    until: int,
    now: datetime,
    rate: float = 0.0,
) -> list[AppliedBatch]:
    """Bring projections from where each is to the position `until`, checkpoints included.

    `events` are in the order of the log. Those that a projection has already, and those after
    `until`, are passed over; one of an aggregate with a parked event is parked, too. `rate` is how
    many events a second are processed at present.

    Raises `PoisonEvent`, `ProjectionFenced` or its `CheckpointReset`, and transient errors of the
    database as they are. The steps are numbered as in `worker`.
    """
    # 4. fence. First, because if another worker was faster, its rows would look like a poison
    # event; and from here on, nobody can retry what these projections have parked.
    checkpoint.move_all(connection, expected, until, now, rate)
    # 5. pass, park; 6. handle
    blocked = parking.blocked(connection, [each.projection for each in expected])
    return [
        _apply_one(connection, each, events, until, now, blocked.get(each.projection.name, set()))
        for each in expected
    ]


def park(
    connection: Connection, expected: ExpectedCheckpoint, poison: PoisonEvent, tries: int
) -> None:
    """Bring a projection past an event that it cannot take, which is parked; raises as `apply`."""
    now = utc_now()
    checkpoint.move_all(connection, [expected], poison.position, now)
    parking.park(
        connection, expected.projection, poison.recorded, now, error=poison.reason, tries=tries
    )


def execute(connection: Connection, projection: Projection, recorded: LogEvent) -> None:
    """Execute the changes that one event leads to.

    Raises `PoisonEvent`, and transient errors of the database as they are.
    """
    _execute(connection, projection, _step(projection, recorded))


def _apply_one(
    connection: Connection,
    expected: ExpectedCheckpoint,
    events: Sequence[LogEvent],
    until: int,
    now: datetime,
    blocked: set[AggregateKey],
) -> AppliedBatch:
    taken: list[LogEvent] = []
    parked: list[int] = []
    projection = expected.projection
    for recorded in events:
        if not (expected.position < recorded.position <= until and projection.takes(recorded)):
            continue
        if blocked and (recorded.aggregate, recorded.aggregate_id) in blocked:
            if recorded.position not in parked:  # all parts of an event are parked as one
                parking.park(connection, projection, recorded, now)
                parked.append(recorded.position)
        else:
            taken.append(recorded)
    for begin in range(0, len(taken), _MAX_EVENTS):
        _execute_all(connection, projection, taken[begin : begin + _MAX_EVENTS])
    return AppliedBatch(len(taken), frozenset(parked))


class _Step(NamedTuple):
    """The changes that an event leads to, or why its handler failed."""

    recorded: LogEvent
    changes: tuple[Change, ...] = ()
    failure: Exception | None = None

    def made(self) -> tuple[Change, ...]:
        """The changes; raises what the handler raised."""
        if self.failure is not None:
            raise self.failure
        return self.changes


def _step(projection: Projection, recorded: LogEvent) -> _Step:
    try:
        return _Step(recorded, projection.statements(recorded))
    except Exception as error:
        return _Step(recorded, failure=error)


def _execute_all(
    connection: Connection, projection: Projection, events: Sequence[LogEvent]
) -> None:
    """Execute the changes that events lead to, in batches.

    A batch that fails does not say because of which event: then the changes are executed one by
    one, up to the first that fails.
    """
    steps = []
    for recorded in events:
        steps.append(_step(projection, recorded))
        if steps[-1].failure is not None:
            break
    if steps[-1].failure is not None or not _execute_batches(connection, steps):
        for step in steps:
            _execute(connection, projection, step)


def _execute_batches(connection: Connection, steps: Sequence[_Step]) -> bool:
    """Whether all changes were executed in batches; otherwise none was."""
    changes = [change for step in steps for change in step.changes]
    batches = arranged(changes)
    if len(changes) - len(batches) <= _SAVEPOINT:
        return False
    savepoint = connection.begin_nested()
    try:
        for batch in batches:
            batch.execute(connection)
    except Exception as error:
        if is_transient(error):
            raise
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _execute(connection: Connection, projection: Projection, step: _Step) -> None:
    try:
        for change in step.made():
            if isinstance(change, BoundStatement):
                prepared.execute(connection, change.statement, [change.values])
            else:
                connection.execute(change)
    except Exception as error:
        if is_transient(error):
            raise
        reason = storable(_described(error))
        raise PoisonEvent(projection.name, step.recorded, reason) from error


def _described(cause: Exception) -> str:
    """The driver's message; SQLAlchemy's would repeat the statement and all its values."""
    return f"{type(cause).__name__}: {cause_of(cause)}"
