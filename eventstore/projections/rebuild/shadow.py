"""The shadow of a projection: a second set of its tables, built beside the live ones.

It has a checkpoint of its own in the same transactions as its rows, so that a rebuild that was
killed can be continued; and it records what it was built by, so that one that no longer fits is
dropped.
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
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from eventstore.errors import PoisonEvent
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database import checkpoint
from eventstore.projections.database.catalog import create
from eventstore.projections.database.checkpoint import Checkpoint, ExpectedCheckpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints, parked_event
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.declaration import Declaration
from eventstore.projections.worker.apply import apply, park
from eventstore.store.log_mark import LogMark

RETRY_TIMEOUT = 30.0
"""For how many seconds a database that is full or unreachable is retried."""

_logger = make_log_records_safe(logging.getLogger(__name__))

_own = Table(
    "eventstore_rebuild",
    MetaData(),
    Column("shape", String(64), primary_key=True),
    Column("log", String(128)),
    Column("switched_at_epoch", Integer),
)
"""One row: the shape of the tables, the log that their rows come from, and the epoch of the live
rows at which they were to replace them: a shadow with an epoch that has passed is obsolete."""


class Shadow:
    """An open shadow; `position` is the last position of the log in its rows, `mark` the event."""

    def __init__(
        self, database: Database, projection: Projection, position: int, mark: LogMark | None = None
    ) -> None:
        self.database = database
        self.position = position
        self.mark = mark
        self._projection = projection

    async def apply(self, events: Sequence[LogEvent], until: int) -> None:
        """Bring it to the position `until`.

        An event that the projection cannot take is parked if the projection parks, and otherwise
        raised as `PoisonEvent`; the shadow is then right before it.
        """
        while self.position < until:
            try:
                await self._commit(events, until)
            except PoisonEvent as poison:
                if poison.position - 1 > self.position:
                    await self._commit(events, poison.position - 1)
                if self._projection.on_poison != "park":
                    raise
                _logger.warning("%s; it is parked, and the rebuild continues", poison)
                parked = partial(park, poison=poison, tries=1)
                await self._move(parked, [poison.recorded], poison.position)

    async def _commit(self, events: Sequence[LogEvent], until: int) -> None:
        def work(connection: Connection, expected: ExpectedCheckpoint) -> object:
            return apply(connection, [expected], events, until, utc_now())

        await self._move(work, events, until)

    async def _move(
        self,
        work: Callable[[Connection, ExpectedCheckpoint], object],
        events: Sequence[LogEvent],
        until: int,
    ) -> None:
        expected = ExpectedCheckpoint(self._projection, self.position)

        def moved(_result: object) -> None:
            self.position = until
            self.mark = LogMark.of_last(events, until) or self.mark

        await self.database.transact(
            lambda connection: work(connection, expected),
            retry_timeout=RETRY_TIMEOUT,
            committed=moved,
            is_committed=lambda connection: checkpoint.are_at(connection, [expected], until),
        )

    async def announce_switch(self, epoch: int) -> None:
        """Record at which epoch of the live rows it is going to replace them."""
        await self.database.transact(
            lambda connection: connection.execute(update(_own).values(switched_at_epoch=epoch)),
            retry_timeout=RETRY_TIMEOUT,
        )


@asynccontextmanager
async def opened_shadow(
    live: Database, projection: Projection, *, log: str, epoch: int, from_scratch: bool
) -> AsyncIterator[Shadow]:
    """The shadow to continue, or a new one; it stays when the block ends, unless dropped.

    `log` and `epoch` are the log's identity and the epoch of the live rows. With `from_scratch`,
    an existing one is dropped.
    """
    known = None if from_scratch else await _usable(live, projection, log, epoch)
    if known is None:
        await live.shadow(projection.name).drop()
    async with shadow_of(live, projection) as database:
        if known is None:
            await _create(database, projection, log)
            yield Shadow(database, projection, 0)
        else:
            yield Shadow(database, projection, known.position, known.mark)


def shadow_of(live: Database, projection: Projection) -> Database:
    """The place of a projection's shadow, which need not exist."""
    schemas = Declaration(projection).schemas(live.engine.dialect)
    return live.shadow(projection.name, schemas)


async def shadow_position(live: Database, projection: Projection) -> int | None:
    """The position of a shadow that is being built, or was left; None if there is none."""
    shadow = shadow_of(live, projection)
    if not await shadow.exists():
        return None
    try:
        known = await shadow.peek(lambda connection: checkpoint.read(connection, projection.name))
    except DBAPIError:  # it has just replaced the live rows, and is dropped
        return None
    return None if known is None else known.position


async def _usable(
    live: Database, projection: Projection, log: str, epoch: int
) -> Checkpoint | None:
    """The checkpoint to continue from; None if there is no shadow, or one that does not fit."""
    shadow = shadow_of(live, projection)
    if not await shadow.exists():
        return None
    async with shadow:
        try:
            async with shadow.reading() as connection:
                known = await connection.run_sync(checkpoint.read, projection.name)
                own = (await connection.execute(select(_own))).one_or_none()
        except DBAPIError:  # its creation was interrupted
            return None
        if known is None or known.version != projection.version:
            return None
        if own is None or own.shape != _shape(projection, shadow.engine.dialect) or own.log != log:
            return None
        is_obsolete = own.switched_at_epoch is not None and own.switched_at_epoch <= epoch
        return None if is_obsolete else known


async def _create(shadow: Database, projection: Projection, log: str) -> None:
    declaration = Declaration(projection)

    def begin(connection: Connection) -> None:
        declaration.create_types(connection)
        create(connection, list(declaration.copies.tables.values()))
        create(connection, [checkpoints, parked_event, _own])
        shape = _shape(projection, connection.dialect)
        connection.execute(insert(_own).values(shape=shape, log=log))
        checkpoint.claim(connection, projection, utc_now())

    await shadow.transact(begin, retry_timeout=RETRY_TIMEOUT)


def _shape(projection: Projection, dialect: Dialect) -> str:
    """A digest of the definitions of all its tables, types and indexes."""
    digest = hashlib.sha256()
    for table in [*Declaration(projection).tables, parked_event]:
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        elements: list[DDLElement] = [CreateTable(table), *map(CreateIndex, indexes)]
        for element in elements:
            digest.update(str(element.compile(dialect=dialect)).encode())
        for column in table.columns:
            digest.update(repr(getattr(column.type, "enums", None)).encode())
    return digest.hexdigest()
