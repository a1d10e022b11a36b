"""The guard of the log: compares it with what this process has seen, and notes that for others."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from eventstore.client.client import Client
from eventstore.concurrency.backoff import pause
from eventstore.errors import ClientError, StreamMissing
from eventstore.recovery.log_record import LogRecord
from eventstore.store.log_mark import LogMark
from eventstore.store.store import EventStore

_SAVE_SECONDS = 1.0
_COMPARE_ROUNDS = 5


class LogGuard:
    """Guards the log of a store; a component to be run.

    Every second it notes the highest position seen, if that has moved, in the configuration bucket.
    It compares what was seen with the log after each lost connection, and every 5 seconds, for a
    replica may have lost its end and become the leader. What others have appended counts as seen
    from the next comparison on.

    If the log went back, what this process has seen is noted once more, for the bucket may have
    gone back, too: so that no process begins on this log. Another log, which was reached by
    mistake, is left alone.
    """

    def __init__(self, client: Client, store: EventStore) -> None:
        self._record = LogRecord(client, store.codec.subjects)
        self._store = store
        self._log = ""
        self._high_water = store.high_water
        self._high_water.on_diverged = self._keep_evidence
        self._noted = 0
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    async def begin(self) -> None:
        """See which log it is, and where it ends; raises `StreamMissing` and `ClientError`."""
        self._log = await self._store.identity()
        await self._high_water.catch_up()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Guard until `stop`, after `begin`.

        Raises `LogDiverged` if the log went back, and `LogMissing` if it was deleted.
        """
        self.ready.set()
        rounds = 0
        while not await pause(_SAVE_SECONDS, self._stopping):
            rounds = (rounds + 1) % _COMPARE_ROUNDS
            await self._look(compares=not rounds or not self._high_water.is_verified)
        await self._look(compares=False)

    async def _look(self, *, compares: bool) -> None:
        with suppress(ClientError, StreamMissing):  # which other checks report
            if compares:
                await self._high_water.catch_up()
            mark = self._high_water.mark
            if mark is not None and mark.position > self._noted:
                await self._record.note(mark)
                self._noted = mark.position

    async def _keep_evidence(self, mark: LogMark) -> None:
        with suppress(ClientError, StreamMissing):
            if await self._store.identity() == self._log:
                await self._record.note(mark)
