"""Errors of the blocking facade."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class BlockingCallRefused(EventStoreError, code="blocking_call"):
    """A blocking call cannot be made: the facade is not open, or not in this process.

    Also inside of an event loop.
    """
