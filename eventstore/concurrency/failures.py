"""Failures of concurrent work: raised without their group, distinguished from cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the first of the failures that task groups in the block raise; they are its cause."""
    try:
        yield
    except BaseExceptionGroup as failures:
        error: BaseException = failures
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from failures


@contextmanager
def only_own_cancellation() -> Iterator[None]:
    """Raise `RuntimeError` for a `CancelledError` that is not a cancellation of the current task.

    A handler that awaits a cancelled task ends with one. Propagated, it would silently end the
    handler's caller, as if that had been cancelled. The same for other exceptions that are no
    `Exception`, unless they are meant to end the program or close the coroutine.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that was awaited has been cancelled") from error
    except (Exception, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
