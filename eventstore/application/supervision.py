"""Supervision of a service's parts: one that fails ends no other, is run again, and says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from eventstore.application.components import ReadyComponent
from eventstore.client.client import Client
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import EventStoreError
from eventstore.messages.text import make_log_records_safe
from eventstore.service.health import CheckResult

_BACKOFF = Backoff(1.0, 30.0)
_SETTLED_SECONDS = 5.0
"""A part that was ready for this long has recovered."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class SupervisedPart:
    """Runs a part of a service, whose failure ends neither the service nor its other parts.

    A part that fails after it was ready is run again, after a pause of a second at first, and half
    a minute at most: its `run` must allow that. `error` is why it failed, until it has recovered.
    A failure before it was ready is raised, and so is any when the client is closed or the part
    is being stopped.
    """

    def __init__(
        self, name: str, part: ReadyComponent, client: Client, *, backoff: Backoff = _BACKOFF
    ) -> None:
        self.name = name
        self.ready = part.ready
        self._part = part
        self._client = client
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._supervisor = Supervisor(
            name,
            _logger,
            backoff,
            passes=self._may_run_again,
            interrupt=self._stopping,
            level=logging.ERROR,
        )

    @property
    def error(self) -> Exception | None:
        """Why it failed last; None once it has recovered."""
        return self._supervisor.error

    def stop(self) -> None:
        """Have `run` end, as the part does."""
        self._stopping.set()
        self._part.stop()

    async def run(self) -> None:
        """Run the part until `stop`; raises its failure if it is not run again."""
        await self._supervisor.run(self._run_once)

    async def _run_once(self) -> None:
        if self._was_ready and self._stopping.is_set():
            return
        self.ready.clear()
        settling = asyncio.create_task(self._settle())
        try:
            await self._part.run()
        except Exception as error:
            self._was_ready |= self.ready.is_set()
            if not isinstance(error, EventStoreError) and str(error) != str(self.error):
                _logger.exception("%s: unexpected error", self.name)
            raise
        finally:
            settling.cancel()

    async def _settle(self) -> None:
        await self.ready.wait()
        self._was_ready = True
        if self.error is not None:
            await asyncio.sleep(_SETTLED_SECONDS)
            self._supervisor.recovered()

    def _may_run_again(self, _: Exception) -> bool:
        return self._was_ready and not self._client.is_closed and not self._stopping.is_set()


class PartsCheck:
    """The health check of supervised parts: unhealthy while one has failed and is not yet back."""

    def __init__(self, parts: Sequence[SupervisedPart]) -> None:
        self._parts = tuple(parts)

    async def __call__(self) -> CheckResult:
        """Report the parts that have failed, with their errors."""
        failed = {each.name: str(each.error) for each in self._parts if each.error is not None}
        problems = [f"{name} failed and is started again: {text}" for name, text in failed.items()]
        return CheckResult(
            status="unhealthy" if failed else "healthy",
            problem="; ".join(problems) or None,
            facts={"parts": [each.name for each in self._parts], "failed": failed},
        )
