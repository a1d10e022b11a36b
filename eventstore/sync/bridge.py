"""The bridge: makes blocking methods of the asynchronous ones of another class."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

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


class Facade(Calls[T_co]):
    """Blocking calls of what it opens in a thread of its own; a context manager."""

    def __init__(
        self, opening: AbstractAsyncContextManager[T_co], name: str, timeout: float
    ) -> None:
        super().__init__(LoopThread(opening, name), timeout)
        self._opened: T_co | None = None

    def __enter__(self) -> Self:
        self._opened = self._thread.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.close()

    def _target(self) -> T_co:
        if self._opened is None:
            raise self._thread.closed()
        return self._opened


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
