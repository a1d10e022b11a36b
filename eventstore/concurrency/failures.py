"""Failures of concurrent work: raised without their group, distinguished from cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

_PASSED_ON = (Exception, GeneratorExit, KeyboardInterrupt, SystemExit)


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


def without_frames(error: Exception) -> Exception:
    """The error, to be kept: without the frames that it and its causes were raised in.

    These hold what was worked on, messages for example, and lead back to the error, so that all of
    it would stay in memory until a garbage collection.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


class only_own_cancellation:  # noqa: N801  # read as what it does: `with only_own_cancellation():`
    """Raise `RuntimeError` for a `CancelledError` that is not a cancellation of the current task.

    A handler that awaits a cancelled task ends with one. Propagated, it would silently end the
    handler's caller, as if that had been cancelled. The same for other exceptions that are no
    `Exception`, unless they are meant to end the program or close the coroutine.

    A class, because it is entered for every command: a generator takes several times as long.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, _PASSED_ON):
            return
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is None or task.cancelling():
                return
            raise RuntimeError("something that was awaited has been cancelled") from error
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
