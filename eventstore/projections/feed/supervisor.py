"""Feeding without an end: a feed that fails is begun anew, and until then the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import EventStoreError
from eventstore.projections.feed.feed import Feed
from eventstore.service.checks import look_at_findings
from eventstore.service.health import CheckResult
from eventstore.text import make_log_records_safe

__all__ = ["FeedSupervisor"]

_STALLED_SECONDS = 10.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class FeedSupervisor:
    """Runs a feed, and after a failure of it the next one, which `make` makes.

    A failure is logged once for each text and `error` tells it until a feed goes on; at most
    `pause` seconds later the next one is tried. Called, it is a health check.
    """

    def __init__(self, make: Callable[[], Feed], *, pause: float = 5.0) -> None:
        self.feed = make()
        self._make = make
        self._stopping = asyncio.Event()
        self._supervisor = Supervisor(
            "the feed",
            _logger,
            Backoff(pause, pause),
            passes=lambda error: isinstance(error, EventStoreError),
            interrupt=self._stopping,
            level=logging.ERROR,
        )

    @property
    def error(self) -> Exception | None:
        """Why the last feed has stopped; None once the next one goes on."""
        return self._supervisor.error

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
        self.feed.stop()

    async def run(self) -> None:
        """Feed until `stop`; only what is no error of the store's is raised."""
        await self._supervisor.run(self._feed_on)

    async def _feed_on(self) -> None:
        if not self._stopping.is_set():
            try:
                await self.feed.run()
            except EventStoreError:
                self.feed = self._make()
                raise

    async def __call__(self) -> CheckResult:
        """Unhealthy after a failure, until a feed has taken events again, or found none to take.

        Degraded while events wait and the feed gets no further, and where it has found messages in
        the event stream that are not its own.
        """
        if self.feed.pending is not None:
            self._supervisor.recovered()
        facts = {"position": self.feed.position, "published": self.feed.published}
        if self.error is not None:
            return CheckResult(status="unhealthy", problem=str(self.error), facts=facts)
        if (waited := self.feed.waited) < _STALLED_SECONDS:
            found = look_at_findings(self.feed.findings)
            return CheckResult(
                status=found.status, problem=found.problem, facts={**facts, **found.facts}
            )
        problem = (
            f"the events after position {self.feed.position} have waited for {waited:.0f} s; "
            "another feed holds the lease, or the event stream takes nothing"
        )
        return CheckResult(status="degraded", problem=problem, facts=facts)
