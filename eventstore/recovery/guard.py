"""The guard of the log: compares it with what this process has seen, and notes that for others."""

from __future__ import annotations

import asyncio
import logging

from eventstore.client.client import Client
from eventstore.concurrency.backoff import pause
from eventstore.concurrency.supervisor import FailureLog
from eventstore.errors import ClientError
from eventstore.messages.text import make_log_records_safe
from eventstore.recovery.log_record import LogRecord
from eventstore.service.health import CheckResult
from eventstore.store.store import EventStore

_SAVE_SECONDS = 1.0
_COMPARE_ROUNDS = 5

_logger = make_log_records_safe(logging.getLogger(__name__))


class LogGuard:
    """Guards the log of a store; a component to be run, and a health check.

    Every second it notes the highest position seen, if that has moved, in the configuration bucket.
    It compares what was seen with the log after each lost connection, and every 5 seconds, for a
    replica may have lost its end and become the leader.
    """

    def __init__(self, client: Client, store: EventStore) -> None:
        self._record = LogRecord(client, store.codec.subjects)
        self._high_water = store.high_water
        self._noted = 0
        self._failures = FailureLog("the guard of the log", _logger)
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Guard until `stop`.

        Raises `LogDiverged` if the log went back, and `LogMissing` if it was deleted.
        """
        self.ready.set()
        rounds = 0
        while not await pause(_SAVE_SECONDS, self._stopping):
            rounds = (rounds + 1) % _COMPARE_ROUNDS
            await self._look(compares=not rounds or not self._high_water.is_verified)
        await self._look(compares=False)

    async def _look(self, *, compares: bool) -> None:
        try:
            if compares:
                await self._high_water.compare()
            mark = self._high_water.mark
            if mark is not None and mark.position > self._noted:
                await self._record.note(mark)
                self._noted = mark.position
        except ClientError as error:  # which the connection's check reports
            self._failures.note(error)
        else:
            self._failures.recovered()

    async def __call__(self) -> CheckResult:
        """Healthy while the log has what was seen; what it has not ends the service."""
        await self._high_water.compare()
        return CheckResult(facts={"position": self._high_water.position})
