"""Parked events: those that a projection went on without, and later ones of their aggregates.

All functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, Table, delete, func, insert, select, update

from eventstore.messages.events import LogEvent
from eventstore.projections.database.tables import parked_event as table
from eventstore.projections.projection import Projection

AggregateKey = tuple[str, str]
"""An aggregate: its kind and its id."""


class ParkedEvent(Struct, frozen=True):
    """An event of the log that is missing in a projection's rows.

    `error` is why it could not be applied, None for one that is parked behind an older one of the
    same aggregate; `tries` is how often it was tried.
    """

    projection: str
    position: int
    aggregate: str
    aggregate_id: str
    event_id: str
    event_type: str
    error: str | None
    tries: int
    parked_at: datetime

    @property
    def key(self) -> AggregateKey:
        """Its aggregate."""
        return self.aggregate, self.aggregate_id


def park(
    connection: Connection,
    projection: Projection,
    recorded: LogEvent,
    now: datetime,
    *,
    error: str | None = None,
    tries: int = 0,
) -> None:
    """Park an event, with the reason, or behind an older one of its aggregate."""
    connection.execute(
        insert(table).values(
            projection=projection.name,
            position=recorded.position,
            aggregate=recorded.aggregate,
            aggregate_id=recorded.aggregate_id,
            event_id=recorded.id,
            event_type=recorded.type,
            error=error,
            tries=tries,
            parked_at=now,
        )
    )


def blocked(
    connection: Connection, projections: Collection[Projection]
) -> dict[str, set[AggregateKey]]:
    """By projection, the aggregates with a parked event, whose later ones are parked, too."""
    names = [each.name for each in projections if each.on_poison == "park"]
    found: dict[str, set[AggregateKey]] = {name: set() for name in names}
    if names:
        of = select(table.c.projection, table.c.aggregate, table.c.aggregate_id).distinct()
        for row in connection.execute(of.where(table.c.projection.in_(names))):
            found[row.projection].add((row.aggregate, row.aggregate_id))
    return found


def list_parked(
    connection: Connection, projection: str | None = None, key: AggregateKey | None = None
) -> list[ParkedEvent]:
    """Parked events, in the order of the log; of all projections unless one is named."""
    query = select(table).order_by(table.c.projection, table.c.position)
    if projection is not None:
        query = query.where(table.c.projection == projection)
    if key is not None:
        query = query.where(table.c.aggregate == key[0], table.c.aggregate_id == key[1])
    return [ParkedEvent(**row._mapping) for row in connection.execute(query)]


def count(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """How many events are parked, by projection; projections without any are left out."""
    query = select(table.c.projection, func.count().label("number")).group_by(table.c.projection)
    rows = connection.execute(query.where(table.c.projection.in_(names)))
    return {row.projection: row.number for row in rows}


def record_retry(connection: Connection, projection: str, position: int, error: str) -> None:
    """Record that a retry of an event has failed."""
    connection.execute(
        update(table)
        .where(table.c.projection == projection, table.c.position == position)
        .values(tries=table.c.tries + 1, error=error)
    )


def forget(connection: Connection, projection: str, position: int) -> bool:
    """Remove a parked event; False if it was not parked."""
    removed = connection.execute(
        delete(table).where(table.c.projection == projection, table.c.position == position)
    )
    return removed.rowcount == 1


def forget_after(connection: Connection, projection: str, position: int) -> None:
    """Remove the parked events after a position."""
    connection.execute(
        delete(table).where(table.c.projection == projection, table.c.position > position)
    )


def replace(connection: Connection, projection: str, source: Table) -> None:
    """Replace the parked events of a projection by those in another table of the same form."""
    forget_after(connection, projection, 0)
    connection.execute(insert(table).from_select(list(table.c), select(source)))
