"""Failures of what runs at once: the one that came first, without the group around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["first_failure", "ungrouped"]


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the first of the failures that task groups in the block raise; they are its cause."""
    try:
        yield
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from failures


def first_failure(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that came first of those that a task group has raised together."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
