"""Reactions: what a projection has happen outside of the database, beside the worker's own work."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from eventstore.concurrency.failures import only_own_cancellation
from eventstore.messages.events import LogEvent, RecordedEvent
from eventstore.projections.projection import Projection, Reaction
from eventstore.telemetry import Telemetry
from eventstore.text import make_log_records_safe

__all__ = ["Reactions"]

MOST_WAITING = 10_000
"""Events that may wait for their reaction; those beyond are left out, for commits do not wait."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class Reactions:
    """Calls a projection's reactions one after another, each for at most `timeout` seconds."""

    def __init__(self, projection: Projection, *, timeout: float, telemetry: Telemetry) -> None:
        self._projection = projection
        self._timeout = timeout
        self._telemetry = telemetry
        self._waiting: asyncio.Queue[tuple[Reaction, RecordedEvent]] = asyncio.Queue(MOST_WAITING)

    def add(self, recorded: LogEvent) -> None:
        """Have it reacted to, where it has data, there is a reaction and not too many wait."""
        if not isinstance(recorded, RecordedEvent):
            return
        reaction = self._projection.reaction(type(recorded.data))
        if reaction is None:
            return
        try:
            self._waiting.put_nowait((reaction, recorded))
        except asyncio.QueueFull:
            self._told("dropped", recorded, f"{MOST_WAITING:,} others wait already")

    async def run(self) -> None:
        """React until cancelled."""
        while True:
            reaction, recorded = await self._waiting.get()
            try:
                await self._react(reaction, recorded)
            finally:
                self._waiting.task_done()

    async def drained(self) -> None:
        """Return when all that waits has been reacted to, or its time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._waiting.join()
        if left := self._waiting.qsize():
            _logger.warning(
                "projection %s: %d events are not reacted to any more", self._projection.name, left
            )

    async def _react(self, reaction: Reaction, recorded: RecordedEvent) -> None:
        try:
            with only_own_cancellation():
                async with asyncio.timeout(self._timeout) as bound:
                    await reaction(recorded.data, recorded)
        except Exception as error:
            late = f"not done after {self._timeout:g} s"
            self._told("failed", recorded, late if bound.expired() else repr(error))
        else:
            self._count("done")

    def _told(self, outcome: str, recorded: RecordedEvent, problem: str) -> None:
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
