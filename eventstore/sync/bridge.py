"""The bridge: makes blocking methods of the asynchronous ones of another class."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from eventstore.sync.iterator import BlockingIterator
from eventstore.sync.loop_thread import LoopThread

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Calls(Generic[T_co]):
    """Blocking calls of `target`, which is open in a thread; `timeout` bounds each, in seconds."""

    def __init__(self, thread: LoopThread[Any], timeout: float) -> None:
        self._thread = thread
        self._timeout = timeout

    def _target(self) -> T_co:
        """The object that is called; raises `BlockingCallRefused` if it is not open."""
        raise NotImplementedError


def blocking(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Calls[T], P], R]:
    """A method that calls this one, and returns its result when it is there."""

    @functools.wraps(method)
    def call(self: Calls[T], /, *args: P.args, **options: P.kwargs) -> R:
        return self._thread.call(lambda: method(self._target(), *args, **options), self._timeout)

    return call


def iterating(
    method: Callable[Concatenate[T, P], AsyncGenerator[R, None]],
) -> Callable[Concatenate[Calls[T], P], BlockingIterator[R]]:
    """A method that iterates over what this one yields; without a timeout if that is live."""

    @functools.wraps(method)
    def iterate(self: Calls[T], /, *args: P.args, **options: P.kwargs) -> BlockingIterator[R]:
        self._thread.check_thread()
        timeout = None if options.get("live") else self._timeout
        return BlockingIterator(
            self._thread, lambda: method(self._target(), *args, **options), timeout
        )

    return iterate
