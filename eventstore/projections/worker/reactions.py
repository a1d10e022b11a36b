"""Reactions: a projection's side effects outside of the database, concurrent with the worker."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from eventstore.concurrency.failures import only_own_cancellation
from eventstore.messages.events import LogEvent, RecordedEvent
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.projection import Projection, Reaction
from eventstore.telemetry import Telemetry

MAX_QUEUED = 10_000
"""How many events may be queued; further ones are dropped, so that commits never wait."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class Reactions:
    """Calls a projection's reactions one after another, each for at most `timeout` seconds."""

    def __init__(self, projection: Projection, *, timeout: float, telemetry: Telemetry) -> None:
        self._projection = projection
        self._timeout = timeout
        self._telemetry = telemetry
        self._queue: asyncio.Queue[tuple[Reaction, RecordedEvent]] = asyncio.Queue(MAX_QUEUED)

    def add(self, recorded: LogEvent) -> None:
        """Queue an event, if it has data, there is a reaction to it and the queue is not full."""
        if not isinstance(recorded, RecordedEvent):
            return
        reaction = self._projection.reaction(type(recorded.data))
        if reaction is None:
            return
        try:
            self._queue.put_nowait((reaction, recorded))
        except asyncio.QueueFull:
            self._log("dropped", recorded, f"{MAX_QUEUED:,} others are queued already")

    async def run(self) -> None:
        """React until cancelled."""
        while True:
            reaction, recorded = await self._queue.get()
            try:
                await self._react(reaction, recorded)
            finally:
                self._queue.task_done()

    async def drained(self) -> None:
        """Return when the queue is empty, or after the timeout of one reaction."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._queue.join()
        if left := self._queue.qsize():
            _logger.warning(
                "projection %s: %d queued reactions are dropped", self._projection.name, left
            )

    async def _react(self, reaction: Reaction, recorded: RecordedEvent) -> None:
        try:
            with only_own_cancellation():
                async with asyncio.timeout(self._timeout) as bound:
                    await reaction(recorded.data, recorded)
        except Exception as error:
            late = f"not done after {self._timeout:g} s"
            self._log("failed", recorded, late if bound.expired() else repr(error))
        else:
            self._count("done")

    def _log(self, outcome: str, recorded: RecordedEvent, problem: str) -> None:
        self._count(outcome)
        _logger.warning(
            "projection %s: no reaction to %s %s at position %d: %s",
            self._projection.name,
            recorded.type,
            recorded.id,
            recorded.position,
            problem,
        )

    def _count(self, outcome: str) -> None:
        self._telemetry.count("reactions", projection=self._projection.name, outcome=outcome)
