"""Functions of users: their names, their annotations, and whether they are asynchronous."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from eventstore.errors import DeciderError, EventStoreError


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that is called in the end, which has the annotations."""
    function = _without_partial(function)
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = type(function).__call__
    return call


def is_async(function: Callable[..., Any]) -> bool:
    """Whether the result of a call must be awaited, or iterated over by `async for`.

    A decorated function is if the function that it wraps is.
    """
    runs = called(function), called(inspect.unwrap(_without_partial(function)))
    return any(map(_is_async, runs))


def returns_coroutine(function: Callable[..., Any]) -> bool:
    """Whether the result of a call can be awaited, as far as the function itself shows it."""
    function = _without_partial(function)
    return any(map(inspect.iscoroutinefunction, (function, called(function))))


def _is_async(run: Callable[..., Any]) -> bool:
    code = getattr(run, "__code__", None)
    is_awaitable = code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return is_awaitable or inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run)


def count_positional(function: Callable[..., Any], *counts: int) -> int:
    """The largest of these `counts` of positional arguments, alone, that it can be called with.

    Raises `TypeError` if there is none.
    """
    problems: list[str] = []
    for count in sorted(counts, reverse=True):
        try:
            inspect.signature(function).bind(*[None] * count)
        except (TypeError, ValueError) as error:  # ValueError: a partial with too many arguments
            problems.append(str(error))
        else:
            return count
    # What is missing says more than that the largest number is too many.
    raise TypeError(min(problems, key=lambda problem: problem.startswith("too many")))


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function for the text of an error."""
    function = _without_partial(function)
    return getattr(function, "__name__", type(function).__qualname__)


def _without_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def annotations_of(
    function: Callable[..., Any], where: str, error: type[EventStoreError] = DeciderError
) -> tuple[list[Any], Any]:
    """The annotations of a function's parameters, in order, and of its result; None for none.

    Raises `error`, saying `where`, for one that cannot be understood.
    """
    try:
        hints = typing.get_type_hints(called(function))
    except NameError as unknown:
        raise error(
            f"{where}: annotation not understood, {unknown}; "
            "define or import the types in the module"
        ) from unknown
    except TypeError:  # builtin functions have no annotations
        hints = {}
    return [hints.get(name) for name in inspect.signature(function).parameters], hints.get("return")


def is_message(leaf: Any, base: type[Any]) -> bool:
    """Whether this is a class of messages derived from `base`, with a subject."""
    return isinstance(leaf, type) and issubclass(leaf, base) and hasattr(leaf, "__aggregate__")


def leaves(annotation: Any) -> Iterator[Any]:
    """The innermost types of an annotation: the members of a union, the items of a list."""
    inner = typing.get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from leaves(each)
