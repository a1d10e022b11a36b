"""Watching: what the checkpoints of some projections are now, in whichever process they move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends.base import to_its_end
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.text import make_log_records_safe

__all__ = ["CheckpointWatch"]

_logger = make_log_records_safe(logging.getLogger(__name__))


class CheckpointWatch:
    """Reads the checkpoints of some projections; to be closed with `aclosing`.

    It keeps a connection of its own: where a file was taken away, SQLite would make a new, empty
    one for a connection that comes later.
    """

    def __init__(self, database: Database, names: Collection[str]) -> None:
        self._database = database
        self._names = list(names)
        self._connection: AsyncConnection | None = None

    async def look(self) -> Mapping[str, Checkpoint]:
        """The checkpoints by projection; none where the database does not answer now."""
        # A cancelled read would leave its connection's thread alone with an answer.
        return await to_its_end(asyncio.create_task(self._read()), lambda: False, None)

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
