"""Waiting for what follows later, in a test."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_FIRST_PAUSE = 0.005
_MAX_PAUSE = 0.1


@overload
async def eventually(
    check: Callable[[], Awaitable[T]],
    *,
    timeout: float = ...,
    retried: tuple[type[Exception], ...] = ...,
) -> T: ...


@overload
async def eventually(
    check: Callable[[], T], *, timeout: float = ..., retried: tuple[type[Exception], ...] = ...
) -> T: ...


async def eventually(
    check: Callable[[], Any],
    *,
    timeout: float = 10.0,
    retried: tuple[type[Exception], ...] = (AssertionError,),
) -> Any:
    """Call `check`, which may be async, until it returns something true; and return that.

    An exception of a class in `retried` counts as not yet. After `timeout` seconds the last one is
    raised, or `TimeoutError` with the last value. For the outcome of a command and the answer to a
    query nothing has to be waited for: `execute` returns the one, `wait_for` waits for the other.
    """
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            value = check()
            found = await value if inspect.isawaitable(value) else value
        except retried:
            if time.monotonic() > end:
                raise
        else:
            if found:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"not within {timeout:g} s; the last value is {found!r}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE)
