"""Errors of deciders, and of the commands they decide."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class DeciderError(EventStoreError, code="decider"):
    """A decider is defined incorrectly; a bug, found at program start."""


class HandlerFailed(EventStoreError, code="handler_failed"):
    """A decider's function raised an error of this library other than `Rejected`.

    It is a failure of that function, as any other exception, and not one of the store.
    """


class Rejected(EventStoreError):
    """The domain rejected a command. Raised by deciders; an outcome, not a failure.

    The instance's `code` is the domain's own and part of its contract.
    """

    code: str  # type: ignore[misc]  # of the instance here, of the class elsewhere

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CommandTimeout(EventStoreError, code="timeout", retryable=True):
    """There was no outcome in time. The command was accepted, and may still be executed.

    Sending it again with the same id is safe: it is executed once.
    """

    def __init__(self, command_id: str, seconds: float) -> None:
        super().__init__(
            f"command {command_id} was accepted, but has no outcome after {seconds:g} s; "
            "is a command worker running?"
        )
        self.command_id = command_id
        self.seconds = seconds
