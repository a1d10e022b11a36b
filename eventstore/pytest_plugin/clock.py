"""The clock of an application in a test: timers are due as the test moves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from eventstore.errors import ConfigurationError
from eventstore.testing.clock import ManualClock
from eventstore.timers import Timer
from eventstore.timers.schedule import delay_of
from eventstore.timers.testing import ManualTimers

if TYPE_CHECKING:
    from eventstore.application.service import RunningApplication


class AppClock:
    """A clock for `run_app(app, clock=...)`: it begins in 2100, and only `advance` moves it.

    It belongs to one running application at a time.
    """

    def __init__(self) -> None:
        self._clock = ManualClock()
        self._service: RunningApplication | None = None

    def __call__(self) -> datetime:
        """The current time."""
        return self._clock()

    async def advance(self, by: timedelta | str) -> list[Timer]:
        """Move the clock forward, by a `timedelta` or a text such as 90s, 15m, 2h, 3d or 1w.

        Returns the timers that were due, in the order of their times; the command of each has been
        carried out (see `eventstore.timers.testing.ManualTimers`). Raises `ConfigurationError` for
        another text, backward, or while no application runs by this clock.
        """
        delay = delay_of(by) if isinstance(by, str) else by
        if delay is None:
            raise ConfigurationError(f"{by!r} is not a delay: write 90s, 15m, 2h, 3d or 1w")
        if self._service is None:
            raise ConfigurationError("no application runs by this clock: run_app(app, clock=...)")
        return await ManualTimers(self._service.timers, self._clock).advance(delay)

    @asynccontextmanager
    async def of(self, service: RunningApplication) -> AsyncIterator[None]:
        """Be this one's clock within the block; raises `ConfigurationError` if another has it."""
        if self._service is not None:
            raise ConfigurationError(
                f"application {self._service.app.name} runs by this clock: use one for each"
            )
        self._service = service
        try:
            yield
        finally:
            self._service = None
