"""The shadow of a projection: its tables once more, beside the live ones, being built anew.

It has a checkpoint of its own in the same transactions as its rows, so that a rebuild that was
killed goes on where it was; and it knows what it was built by, so that what would not fit any more
is thrown away.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement, sort_tables

from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent
from eventstore.projections.database import checkpoint
from eventstore.projections.database.checkpoint import LockedCheckpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import parked_event
from eventstore.projections.database.tables import projection as checkpoints
from eventstore.projections.projection import Projection
from eventstore.projections.worker.apply import PoisonEvent, apply, park
from eventstore.text import make_log_records_safe

__all__ = ["Shadow", "opened_shadow", "shadow_position", "tables_of"]

PATIENCE = 30.0
"""For how many seconds a database that is full or away is asked again."""

_logger = make_log_records_safe(logging.getLogger(__name__))

_own = Table(
    "rebuild",
    MetaData(),
    Column("shape", String(64), primary_key=True),
    Column("log", String(128)),
    Column("switched_at_epoch", Integer),
)
"""The one row says of what shape the tables are, from which log their rows come, and at which epoch
of the live rows they were to take over: where that has passed, they have had their turn."""


def tables_of(projection: Projection) -> list[Table]:
    """The tables of a projection, what others refer to before those that do."""
    return sort_tables(projection.tables)


class Shadow:
    """An open shadow; `position` is the last position of the log in its rows."""

    def __init__(self, database: Database, projection: Projection, position: int) -> None:
        self.database = database
        self.position = position
        self._projection = projection

    async def apply(self, events: Sequence[LogEvent], until: int) -> None:
        """Bring it to the position `until`.

        An event that the projection cannot take is parked where the projection wants that, and
        else raised as `PoisonEvent`, the shadow then standing right before it.
        """
        while self.position < until:
            try:
                await self._commit(events, until)
            except PoisonEvent as poison:
                if poison.position - 1 > self.position:
                    await self._commit(events, poison.position - 1)
                if self._projection.on_poison != "park":
                    raise
                _logger.warning("%s; it is parked, and the rebuild goes on", poison)
                await self._move(partial(park, poison=poison, tries=1), poison.position)

    async def _commit(self, events: Sequence[LogEvent], until: int) -> None:
        await self._move(lambda c, held: apply(c, [held], events, until, utc_now()), until)

    async def _move(
        self, work: Callable[[Connection, LockedCheckpoint], object], until: int
    ) -> None:
        held = LockedCheckpoint(self._projection, self.position)

        def moved(_result: object) -> None:
            self.position = until

        await self.database.transact(
            lambda connection: work(connection, held),
            retry_timeout=PATIENCE,
            committed=moved,
            stands=lambda connection: checkpoint.are_at(connection, [held], until),
        )

    async def announce_switch(self, epoch: int) -> None:
        """Note at which epoch of the live rows it is going to take over."""
        await self.database.transact(
            lambda connection: connection.execute(update(_own).values(switched_at_epoch=epoch)),
            retry_timeout=PATIENCE,
        )


@asynccontextmanager
async def opened_shadow(
    live: Database, projection: Projection, *, log: str, epoch: int, anew: bool
) -> AsyncIterator[Shadow]:
    """A shadow to go on with, or a new one; it stays when the block ends, unless dropped.

    `log` and `epoch` are the log's identity and the epoch of the live rows. With `anew`, what is
    there is thrown away.
    """
    if anew:
        await live.beside(projection.name).drop()
    position = None if anew else await _usable(live, projection, log, epoch)
    if position is None:
        await live.beside(projection.name).drop()
    async with live.beside(projection.name) as database:
        if position is None:
            await _create(database, projection, log)
        yield Shadow(database, projection, position or 0)


async def shadow_position(live: Database, projection: Projection) -> int | None:
    """How far a shadow has come that somebody builds, or has left; None where there is none."""
    shadow = live.beside(projection.name)
    if not await shadow.exists():
        return None
    try:
        known = await shadow.glance(lambda connection: checkpoint.read(connection, projection.name))
    except DBAPIError:  # it has just taken over, and is gone
        return None
    return None if known is None else known.position


async def _usable(live: Database, projection: Projection, log: str, epoch: int) -> int | None:
    """The position to go on from; None where there is no shadow, or one that does not fit."""
    shadow = live.beside(projection.name)
    if not await shadow.exists():
        return None
    async with shadow:
        known = await _checkpoint(shadow, projection)
        if known is None or known.version != projection.version:
            return None
        async with shadow.engine.connect() as connection:
            own = (await connection.execute(select(_own))).one_or_none()
        if own is None or own.shape != _shape(projection, shadow.engine.dialect) or own.log != log:
            return None
        had_its_turn = own.switched_at_epoch is not None and own.switched_at_epoch <= epoch
        return None if had_its_turn else known.position


async def _checkpoint(shadow: Database, projection: Projection) -> checkpoint.Checkpoint | None:
    """The shadow's checkpoint; None where whoever began it did not come so far."""
    try:
        async with shadow.reading() as connection:
            return await connection.run_sync(checkpoint.read, projection.name)
    except DBAPIError:
        return None


async def _create(shadow: Database, projection: Projection, log: str) -> None:
    await shadow.create_tables([*tables_of(projection), checkpoints, parked_event, _own])

    def begin(connection: Connection) -> None:
        shape = _shape(projection, connection.dialect)
        connection.execute(insert(_own).values(shape=shape, log=log))
        checkpoint.claim(connection, projection, utc_now())

    await shadow.transact(begin, retry_timeout=PATIENCE)


def _shape(projection: Projection, dialect: Dialect) -> str:
    """A digest of the definitions of all tables and indexes that rows are kept in."""
    digest = hashlib.sha256()
    for table in [*tables_of(projection), parked_event]:
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        elements: list[DDLElement] = [CreateTable(table), *map(CreateIndex, indexes)]
        for element in elements:
            digest.update(str(element.compile(dialect=dialect)).encode())
    return digest.hexdigest()
