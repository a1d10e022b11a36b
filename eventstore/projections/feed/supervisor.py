"""Feed supervision: restarts a feed that has failed, while the rest of the process runs on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import EventStoreError
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.feed.feed import Feed
from eventstore.service.checks import check_findings
from eventstore.service.health import CheckResult

_STALLED_SECONDS = 10.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class FeedSupervisor:
    """Runs a feed made by `make`, and after its failure a new one.

    A failure is logged once for each text, and is `error` until a feed makes progress; at most
    `pause` seconds after it the next one starts. Called, it is a health check.
    """

    def __init__(self, make: Callable[[], Feed], *, pause: float = 5.0) -> None:
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
        self.feed = self._new_feed()

    @property
    def error(self) -> Exception | None:
        """The failure of the last feed; None once the next one makes progress."""
        return self._supervisor.error

    def stop(self) -> None:
        """Have `run` end."""
        self._stopping.set()
        self.feed.stop()

    async def run(self) -> None:
        """Feed until `stop`; raises only errors that are not the store's."""
        await self._supervisor.run(self._feed)

    async def _feed(self) -> None:
        if not self._stopping.is_set():
            try:
                await self.feed.run()
            except EventStoreError:
                self.feed = self._new_feed()
                raise

    def _new_feed(self) -> Feed:
        feed = self._make()
        feed.on_page = self._supervisor.recovered
        return feed

    async def __call__(self) -> CheckResult:
        """Unhealthy after a failure, until a feed has published a page of the log, or none is left.

        Degraded while events wait and the feed makes no progress, and if it has found messages in
        the event stream that are not its own.
        """
        feed = self.feed
        await feed.report_lag()
        facts = {"position": feed.position, "published": feed.published, "pending": feed.pending}
        if self.error is not None:
            return CheckResult(status="unhealthy", problem=str(self.error), facts=facts)
        if (waited := self.feed.waited) < _STALLED_SECONDS:
            found = check_findings(self.feed.findings)
            return CheckResult(
                status=found.status, problem=found.problem, facts={**facts, **found.facts}
            )
        problem = (
            f"the events after position {self.feed.position} have been pending for {waited:.0f} s; "
            "another feed holds the lease, or the event stream accepts nothing"
        )
        return CheckResult(status="degraded", problem=problem, facts=facts)
