"""Functions that others write: what to call them, and whether somebody would have to await them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["called", "is_async", "name_of"]


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that is run in the end, which has the annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = type(function).__call__
    return call


def is_async(function: Callable[..., Any]) -> bool:
    """Whether the result of a call would have to be awaited, or iterated over by `async for`."""
    run = called(function)
    return inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run)


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function in an error."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__qualname__)
