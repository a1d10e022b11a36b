"""Errors of timers: commands that are sent for later."""

from __future__ import annotations

from eventstore.errors.messages import InvalidMessage


class InvalidTimer(InvalidMessage, code="invalid_timer"):
    """A timer cannot be set: its name, its time or its recurrence is wrong; the text says which."""


class TimerInPast(InvalidTimer, code="timer_in_past"):
    """The time of a timer has passed, and it was to be refused then."""


class NoTimer(InvalidMessage, code="no_timer"):
    """No timer of this name is waiting: it has fired, was cancelled, or was never set."""
