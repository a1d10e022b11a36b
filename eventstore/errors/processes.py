"""Errors of processes."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class ProcessError(EventStoreError, code="process"):
    """A process cannot react to an event, which is parked."""


class ProcessLoop(ProcessError, code="process_loop"):
    """A process has reacted too often within one correlation: it loops by its own commands."""


class ProcessWaits(ProcessError, code="process_waits"):
    """A process has failed at an earlier event, and takes no other before that."""


class UnknownProcess(ProcessError, code="unknown_process"):
    """The application has no process of this name, or that has none of this key."""
