"""A clock for tests: time stands still until the test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from eventstore.errors import ConfigurationError
from eventstore.messages.envelope import checked_clock

FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that only the test moves, for `Application(clock=...)` and every other `clock`.

    It begins in the year 2100, so that the server, whose time goes on, holds all timers:
    `eventstore.timers.testing` makes them due as this clock moves. Raises `ConfigurationError` for
    a time without a zone.
    """

    def __init__(self, start: datetime = FUTURE) -> None:
        self._now = checked_clock(lambda: start)()

    def __call__(self) -> datetime:
        """The current time."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move the clock forward, and return its time; raises `ConfigurationError` for backward.

        No timer is due by that alone.
        """
        if by < timedelta(0):
            raise ConfigurationError(f"a clock does not go back, here by {-by}")
        self._now += by
        return self._now
