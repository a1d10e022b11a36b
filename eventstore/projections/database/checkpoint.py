"""Checkpoints: the log position of each projection's rows, stored in the same database.

All functions run inside the caller's transaction, so that rows and checkpoint are committed
together or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Connection,
    Update,
    and_,
    bindparam,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from eventstore.errors import (
    CheckpointReset,
    OtherLog,
    ProjectionFenced,
    VersionChanged,
)
from eventstore.messages.text import storable
from eventstore.projections.database import parking, prepared
from eventstore.projections.database.tables import checkpoints as table
from eventstore.projections.projection import Projection


class Checkpoint(Struct, frozen=True):
    """The log position of a projection's rows: a row of the table `checkpoints`.

    A worker that finds another epoch than it knows restarts from `position`.
    """

    name: str
    version: int
    position: int
    updated_at: datetime
    epoch: int
    rate: float
    error: str | None
    log: str | None


class ExpectedCheckpoint(NamedTuple):
    """A checkpoint as whoever moves it expects it; without an epoch, in any."""

    projection: Projection
    position: int
    epoch: int | None = None


def read(connection: Connection, name: str) -> Checkpoint | None:
    """The checkpoint of a projection; None before its first use."""
    return read_checkpoints(connection, [name]).get(name)


def read_checkpoints(connection: Connection, names: Collection[str]) -> dict[str, Checkpoint]:
    """The checkpoints of projections, without those that were never used."""
    rows = connection.execute(select(table).where(table.c.name.in_(names)))
    return {row.name: Checkpoint(**row._mapping) for row in rows}


def lock(connection: Connection, name: str) -> Checkpoint | None:
    """The checkpoint of a projection, locked until the end of the transaction."""
    locked = select(table).where(table.c.name == name).with_for_update()
    row = connection.execute(locked).one_or_none()
    return None if row is None else Checkpoint(**row._mapping)


def restart(
    connection: Connection,
    projection: Projection,
    position: int,
    now: datetime,
    log: str | None = None,
) -> None:
    """Set the checkpoint of rows that were just replaced.

    They count as made by this version of the projection; its worker restarts from there. Events
    that are parked up to `position` stay parked. Without a `log`, the worker records which one it
    builds the rows from.
    """
    known = read(connection, projection.name)
    values = {
        "version": projection.version,
        "position": position,
        "updated_at": now,
        "epoch": 1 if known is None else known.epoch + 1,
        "rate": 0.0,
        "error": None,
        "log": log,
    }
    if known is None:
        connection.execute(insert(table).values(name=projection.name, **values))
    else:
        connection.execute(update(table).where(table.c.name == projection.name).values(**values))


def retry(connection: Connection, name: str) -> bool:
    """Have a projection that stopped retried from its position; False before its first use.

    Its worker, in whichever process, notices within about a second.
    """
    changed = connection.execute(
        update(table).where(table.c.name == name).values(epoch=table.c.epoch + 1, error=None)
    )
    return changed.rowcount == 1


def fail(connection: Connection, expected: ExpectedCheckpoint, error: str) -> None:
    """Record why a projection stopped, until it moves; nothing if somebody else has set it."""
    connection.execute(
        update(table)
        .where(table.c.name == expected.projection.name, table.c.epoch == expected.epoch)
        .values(error=storable(error), rate=0.0)
    )


def claim(
    connection: Connection, projection: Projection, now: datetime, log: str | None = None
) -> Checkpoint:
    """The checkpoint to continue from; a new projection begins at 0.

    `log` identifies this log, and is recorded if none is known yet. Raises `OtherLog` for rows
    from another one, `VersionChanged` for rows of another version, and `ProjectionFenced` if
    another worker used the projection for the first time just now.
    """
    # Locked, for a worker that was killed may have left a transaction that has not ended yet.
    known = lock(connection, projection.name) or _begin(connection, projection, now, log)
    if None not in (log, known.log) and log != known.log:
        raise OtherLog(known, str(log))
    if known.version != projection.version:
        raise VersionChanged(projection.name, projection.version, known)
    if known.log is None and log is not None:
        own = table.c.name == projection.name
        connection.execute(update(table).where(own).values(log=log))
    # If the checkpoint was set back, these events are going to be read once more.
    parking.forget_after(connection, projection.name, known.position)
    return known


def _begin(
    connection: Connection, projection: Projection, now: datetime, log: str | None
) -> Checkpoint:
    begun = Checkpoint(projection.name, projection.version, 0, now, 1, 0.0, None, log)
    try:
        connection.execute(insert(table).values(**msgspec.structs.asdict(begun)))
    except IntegrityError as error:
        raise _fenced(projection) from error
    return begun


def move_all(
    connection: Connection,
    expected: Sequence[ExpectedCheckpoint],
    position: int,
    now: datetime,
    rate: float = 0.0,
) -> None:
    """Move checkpoints forward to `position`, all or none, if each is as expected.

    `rate` is how many events a second the worker processes. Raises `CheckpointReset` if somebody
    else has set one, `ProjectionFenced` if another worker moved one, and `ValueError` for a move
    that is not forward.
    """
    previous = max(each.position for each in expected)
    if position <= previous:
        raise ValueError(f"a checkpoint moves forward, not from {previous} to {position}")
    values: dict[str, object] = {"to": position, "now": now, "now_rate": rate}
    for number, each in enumerate(expected):
        values |= {
            f"name_{number}": each.projection.name,
            f"version_{number}": each.projection.version,
            f"position_{number}": each.position,
        }
        if each.epoch is not None:
            values[f"epoch_{number}"] = each.epoch
    statement = _moving(tuple(each.epoch is not None for each in expected))
    if prepared.execute(connection, statement, [values]) != len(expected):
        raise _reason(connection, expected)


def are_at(connection: Connection, expected: Sequence[ExpectedCheckpoint], position: int) -> bool:
    """Whether these checkpoints are at a position, and nobody else has set them."""
    known = read_checkpoints(connection, [each.projection.name for each in expected])
    return all(
        _is_there(each._replace(position=position), known.get(each.projection.name))
        for each in expected
    )


@cache
def _moving(with_epoch: tuple[bool, ...]) -> Update:
    """One statement for all: each costs a round trip, and live there may be one for each event."""
    theirs = [
        and_(
            table.c.name == bindparam(f"name_{number}"),
            table.c.version == bindparam(f"version_{number}"),
            table.c.position == bindparam(f"position_{number}"),
            table.c.epoch == bindparam(f"epoch_{number}") if has_epoch else true(),
        )
        for number, has_epoch in enumerate(with_epoch)
    ]
    return (
        update(table)
        .where(or_(*theirs))
        .values(
            position=bindparam("to"),
            updated_at=bindparam("now"),
            rate=bindparam("now_rate"),
            error=None,
        )
    )


def _reason(connection: Connection, expected: Sequence[ExpectedCheckpoint]) -> ProjectionFenced:
    known = read_checkpoints(connection, [each.projection.name for each in expected])
    for projection, _, epoch in expected:
        found = known.get(projection.name)
        if found is not None and epoch not in (None, found.epoch):
            return CheckpointReset(
                f"the rows of projection {projection.name} were replaced, or its checkpoint set"
            )
    moved = [each for each in expected if not _is_there(each, known.get(each.projection.name))]
    return _fenced((moved or expected)[0].projection)


def _is_there(expected: ExpectedCheckpoint, found: Checkpoint | None) -> bool:
    return (
        found is not None
        and found.position == expected.position
        and found.version == expected.projection.version
        and expected.epoch in (None, found.epoch)
    )


def _fenced(projection: Projection) -> ProjectionFenced:
    return ProjectionFenced(f"another worker moved the checkpoint of projection {projection.name}")
