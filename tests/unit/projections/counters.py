"""A small domain and its read models, some of which can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
)

from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import OnPoison, Projection, Statement


class Counted(Event, subject="counter.counted"):
    by: int


class Noted(Event, subject="counter.noted"):
    text: str


codec = Codec("test", commands=[], events=[Counted, Noted])
metadata = MetaData()


def table(name: str) -> Table:
    if name in metadata.tables:
        return metadata.tables[name]
    return Table(
        name,
        metadata,
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("counter", String(50), nullable=False),
        Column("by", Integer, nullable=False),
    )


def counting(
    name: str,
    *,
    fails: Callable[[Counted], object] = lambda _event: None,
    version: int = 1,
    retries: int = 0,
    on_poison: OnPoison = "stop",
) -> Projection:
    """A projection with one row for each `Counted`; `fails` may raise in its handler."""
    rows = table(name)
    projection = Projection(
        name, version=version, tables=[rows], retries=retries, on_poison=on_poison
    )

    @projection.handles
    def counted(event: Counted, recorded: RecordedEvent) -> Statement:
        fails(event)
        return insert(rows).values(
            position=recorded.position, counter=recorded.aggregate_id, by=event.by
        )

    return projection


def noting(name: str) -> Projection:
    """A projection that wants none of the `Counted`."""
    rows = table(name)
    projection = Projection(name, tables=[rows])

    @projection.handles
    def noted(_event: Noted, recorded: RecordedEvent) -> Statement:
        return insert(rows).values(position=recorded.position, counter="", by=0)

    return projection


async def make_tables(database: Database) -> None:
    await database.transact(metadata.create_all)


async def rows_of(database: Database, projection: Projection) -> list[tuple[Any, ...]]:
    """Position and amount of each row."""

    def read(connection: Connection) -> list[tuple[Any, ...]]:
        rows = projection.tables[0]
        return [
            tuple(row)
            for row in connection.execute(
                select(rows.c.position, rows.c.by).order_by(rows.c.position)
            )
        ]

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


def moved(
    connection: Connection, projection: Projection, previous: int, position: int, now: datetime
) -> None:
    """Move one checkpoint, as another worker would."""
    checkpoint.move_all(
        connection, [checkpoint.LockedCheckpoint(projection, previous)], position, now
    )


def claimed(connection: Connection, *projections: Projection) -> list[checkpoint.LockedCheckpoint]:
    """The checkpoints of projections, claimed as a worker does."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        checkpoint.LockedCheckpoint(each, checkpoint.claim(connection, each, now).position)
        for each in projections
    ]


async def position_in(database: Database, projection: Projection) -> int | None:
    """The position of a projection's checkpoint; None before its first use."""
    known = await database.transact(lambda c: checkpoint.read(c, projection.name))
    return None if known is None else known.position
