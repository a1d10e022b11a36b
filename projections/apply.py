"""Apply events to the tables of projections, inside one transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from eventstore.envelope import RecordedEvent
from eventstore.errors import ProjectionFailed
from projections import checkpoint
from projections.backends import cause_of, is_transient
from projections.projection import Bound, Projection

__all__ = ["PoisonEvent", "apply"]


class PoisonEvent(ProjectionFailed):
    """A projection cannot take an event: its handler or a statement of it failed.

    `projection`, `event_type`, `event_id` and `position` name both; the cause is chained.
    """

    def __init__(self, projection: str, recorded: RecordedEvent, cause: Exception) -> None:
        super().__init__(
            f"projection {projection} stopped before {recorded.type} {recorded.id} "
            f"at position {recorded.position}: {_described(cause)}"
        )
        self.projection = projection
        self.event_type = recorded.type
        self.event_id = recorded.id
        self.position = recorded.position


def apply(
    connection: Connection,
    starts: Iterable[tuple[Projection, int]],
    events: Sequence[RecordedEvent],
    until: int,
    now: datetime,
) -> list[int]:
    """Bring projections from where each is to the position `until`, checkpoints included.

    `events` are those of the log in its order; what a projection has already, or what lies
    beyond `until`, is passed over. Returns how many events each projection handled. Raises
    `PoisonEvent`, `ProjectionFenced`, and transient errors of the database as they are.
    """
    counts = []
    for projection, start in starts:
        # First, for where another worker was faster, its rows would look like a poison event.
        checkpoint.move(connection, projection, start, until, now)
        counts.append(_apply_one(connection, projection, events, start, until))
    return counts


def _apply_one(
    connection: Connection,
    projection: Projection,
    events: Sequence[RecordedEvent],
    start: int,
    until: int,
) -> int:
    count = 0
    for recorded in events:
        if start < recorded.position <= until and projection.wants(type(recorded.data)):
            _execute(connection, projection, recorded)
            count += 1
    return count


def _execute(connection: Connection, projection: Projection, recorded: RecordedEvent) -> None:
    try:
        for change in projection.statements(recorded):
            if isinstance(change, Bound):
                connection.execute(change.statement, change.values)
            else:
                connection.execute(change)
    except Exception as error:
        if is_transient(error):
            raise
        raise PoisonEvent(projection.name, recorded, error) from error


def _described(cause: Exception) -> str:
    """The database's own words; SQLAlchemy's would repeat the statement and all its values."""
    return f"{type(cause).__name__}: {cause_of(cause)}"
