"""Cancellation: a task's own ends it; one that comes out of what the task awaited is a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["only_own_cancellation"]


@contextmanager
def only_own_cancellation() -> Iterator[None]:
    """Raise `RuntimeError` for a `CancelledError` that nobody meant for the current task.

    So it ends where a handler awaits a task that was cancelled. Let through, it would end the
    handler's caller without a word, as if that had been told to stop.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that was awaited has been cancelled") from error
