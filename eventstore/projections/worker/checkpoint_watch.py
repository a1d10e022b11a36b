"""Reads the checkpoints of a worker's projections, whichever process moves them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends.base import run_to_end
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_logger = make_log_records_safe(logging.getLogger(__name__))


class CheckpointWatch:
    """Reads the checkpoints of some projections; to be closed with `aclosing`.

    It has a connection of its own: if the database file is deleted, SQLite would create a new,
    empty one for a later connection.
    """

    def __init__(self, database: Database, names: Collection[str]) -> None:
        self._database = database
        self._names = list(names)
        self._connection: AsyncConnection | None = None

    async def read(self) -> Mapping[str, Checkpoint]:
        """The checkpoints by projection; none if the database does not answer."""
        # Cancelling a read would leave the connection's thread with an answer that nobody takes.
        return await run_to_end(asyncio.create_task(self._read()), lambda: False, None)

    async def _read(self) -> Mapping[str, Checkpoint]:
        try:
            if self._connection is None:
                self._connection = await self._database.engine.connect()
            async with self._connection.begin():
                return await self._connection.run_sync(checkpoint.read_checkpoints, self._names)
        except (SQLAlchemyError, OSError) as error:
            _logger.debug("checkpoints could not be read: %s", error)
            await self.aclose()
            return {}

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                await connection.close()
