"""Errors of parked messages."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class ParkedError(EventStoreError, code="parked"):
    """Handling a parked message failed."""


class NotParked(ParkedError, code="not_parked"):
    """No message is parked at this sequence, or some of its parts are missing."""

    def __init__(self, sequence: int, problem: str = "nothing is parked there") -> None:
        super().__init__(f"parked message {sequence}: {problem}")
        self.sequence = sequence


class RetryOutOfOrder(ParkedError, code="retry_out_of_order"):
    """An older message of the same aggregate is parked; `older` is its sequence."""

    def __init__(self, sequence: int, older: int) -> None:
        super().__init__(
            f"parked message {sequence} is not retried: {older}, of the same aggregate, is older; "
            "retry or discard that one first"
        )
        self.sequence = sequence
        self.older = older


class RetryFailed(ParkedError, code="retry_failed"):
    """The retry of a parked event did not succeed, as far as is known; it is still parked."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"parked message {sequence} is still parked: {why}")
        self.sequence = sequence
