"""Checkpoints: how far each projection's rows have come, kept beside the rows themselves.

All functions work inside the caller's transaction, so that rows and checkpoint are committed
together or not at all.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from eventstore.errors import ProjectionError, ProjectionFenced
from projections.models import projection as table
from projections.projection import Projection

__all__ = ["Checkpoint", "claim", "move", "position_of", "read", "restart"]


class Checkpoint(Struct, frozen=True):
    """How far a projection's rows have come.

    `epoch` is raised whenever somebody else than the worker that moves it has set it: a worker
    that finds another one than it knows begins anew at `position`. `rate` is events a second when
    it moved last; `error` is why the projection stopped, if it did; `log` names the log that the
    rows were built from.
    """

    name: str
    version: int
    position: int
    updated_at: datetime
    epoch: int
    rate: float
    error: str | None
    log: str | None


def read(connection: Connection, name: str) -> Checkpoint | None:
    """The checkpoint of a projection; None before its first use."""
    row = connection.execute(select(table).where(table.c.name == name)).one_or_none()
    return None if row is None else Checkpoint(**row._mapping)


def restart(connection: Connection, projection: Projection, position: int, now: datetime) -> None:
    """Set the checkpoint of rows that were just replaced, or are to be tried again.

    They count as made by this version of the projection; its worker begins anew there.
    """
    known = read(connection, projection.name)
    values = {
        "version": projection.version,
        "position": position,
        "updated_at": now,
        "epoch": 1 if known is None else known.epoch + 1,
        "rate": 0.0,
        "error": None,
    }
    if known is None:
        connection.execute(insert(table).values(name=projection.name, **values))
    else:
        connection.execute(update(table).where(table.c.name == projection.name).values(**values))


def position_of(connection: Connection, projection: Projection) -> int | None:
    """The last log position in a projection's rows; None before its first use.

    Raises `ProjectionError` where another version of the projection made the rows.
    """
    row = connection.execute(
        select(table.c.version, table.c.position).where(table.c.name == projection.name)
    ).one_or_none()
    if row is None:
        return None
    if row.version != projection.version:
        raise ProjectionError(
            f"projection {projection.name} is version {projection.version}, but its rows were made "
            f"by version {row.version}; use a new database, and it is built from the log"
        )
    return int(row.position)


def claim(connection: Connection, projection: Projection, now: datetime) -> int:
    """The position to go on from; a projection that is new begins at 0.

    Raises `ProjectionError` for rows of another version, and `ProjectionFenced` where another
    worker used the projection for the first time at this very moment.
    """
    position = position_of(connection, projection)
    if position is not None:
        return position
    try:
        connection.execute(
            insert(table).values(
                name=projection.name, version=projection.version, position=0, updated_at=now
            )
        )
    except IntegrityError as error:
        raise _fenced(projection) from error
    return 0


def move(
    connection: Connection, projection: Projection, previous: int, position: int, now: datetime
) -> None:
    """Move the checkpoint forward from `previous`, where this worker left it.

    Raises `ProjectionFenced` where it is not there any more, and `ValueError` for a move that
    does not lead forward.
    """
    if position <= previous:
        raise ValueError(f"a checkpoint moves forward, not from {previous} to {position}")
    moved = connection.execute(
        update(table)
        .where(
            table.c.name == projection.name,
            table.c.version == projection.version,
            table.c.position == previous,
        )
        .values(position=position, updated_at=now)
    )
    if moved.rowcount != 1:
        raise _fenced(projection)


def _fenced(projection: Projection) -> ProjectionFenced:
    return ProjectionFenced(
        f"another worker moved the checkpoint of projection {projection.name}; this one stops"
    )
