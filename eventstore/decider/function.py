"""A decider's function: its message and its results, according to its annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import Any

from eventstore.errors import DeciderError
from eventstore.messages.functions import (
    annotations_of,
    called,
    count_positional,
    is_async,
    is_message,
    leaves,
    name_of,
)

# Results of a function without a return, or of one that is not awaited or iterated over.
_SUSPECT = (
    types.NoneType,
    types.GeneratorType,
    types.AsyncGeneratorType,
)
_UNKNOWN: tuple[type, ...] = ()
_ALSO = {float: (float, int), complex: (complex, float, int)}  # as type checkers have it


class DeciderFunction:
    """A function, a method, a partial one or a callable object, as it was declared.

    Raises `DeciderError` for a wrong number of parameters, for an annotation that cannot be
    resolved, and for a result that would have to be awaited.
    """

    def __init__(self, function: Callable[..., Any], *, counts: tuple[int, ...]) -> None:
        self.name = name_of(function)
        check_not_async(function)
        try:
            self.count = count_positional(function, *counts)
        except TypeError as error:
            raise DeciderError(f"{self.name} must take a state and a message: {error}") from error
        parameters, self.returns = annotations_of(function, self.name)
        self.state, self.message, self._third = (*parameters, None, None, None)[:3]
        self._yields = inspect.isgeneratorfunction(called(function))
        if any(issubclass(cls, Awaitable | AsyncIterable) for cls in _classes_of(self.returns)):
            raise DeciderError(f"{self.name} must not return an awaitable")

    def messages(self, base: type[Any]) -> list[Any]:
        """The message classes of the second parameter; unions are taken apart."""
        found = _concrete(self.message, base)
        if not found:
            raise DeciderError(
                f"{self.name}: its second parameter must be annotated with the "
                f"{base.__name__} class it is for, one with a subject"
            )
        return found

    def check_third(self, kind: type) -> None:
        """Raise `DeciderError` if it is called with a third value, and wants none of this type."""
        if self.count == 3 and not may_be([self._third or Any], kind):
            raise DeciderError(f"{self.name}: its third parameter is the {kind.__name__}")

    def returned(self, base: type[Any]) -> list[Any]:
        """The message classes that it may return."""
        return _concrete(self.returns, base)

    def check_returns_state(self) -> None:
        """Raise `DeciderError` for a function that cannot return a state."""
        if self._yields:
            raise DeciderError(f"{self.name} must return the state, not yield")


def check_not_async(function: Callable[..., Any]) -> None:
    """Raise `DeciderError` for a function whose result would have to be awaited."""
    if is_async(function):
        raise DeciderError(f"{name_of(function)} must not be async: deciders do no I/O")


def state_types(annotations: Iterable[Any], initial: type) -> tuple[type, ...]:
    """The types a state may have: that of the initial state and those of the annotations.

    If one of these is open, such as `Any`, a state may be of any type.
    """
    declared = [_classes_of(annotation) for annotation in annotations]
    if not all(declared):
        return (object, initial)
    return (*(cls for classes in declared for cls in classes), initial)


def is_state(value: object, known: tuple[type, ...]) -> bool:
    """Whether a value is of one of these types; None, awaitables and generators only if named."""
    kind = type(value)
    if kind in known:
        return True
    is_suspect = kind in _SUSPECT or is_awaitable(value)
    return isinstance(value, known) and not is_suspect


def may_be(annotations: Sequence[Any], kind: type) -> bool:
    """Whether a value of one of these annotations may be of this type; True if there is none."""
    declared = [_classes_of(annotation) for annotation in annotations]
    if not all(declared):
        return True
    return not declared or any(
        issubclass(cls, kind) or issubclass(kind, cls) for classes in declared for cls in classes
    )


def is_awaitable(value: object) -> bool:
    """Whether a value has to be awaited."""
    return hasattr(type(value), "__await__")


def _classes_of(annotation: Any) -> tuple[type, ...]:
    """The classes that values of an annotation have; none if it is open."""
    if annotation is Any or annotation is object:
        return _UNKNOWN
    if isinstance(annotation, typing.NewType):
        return _classes_of(annotation.__supertype__)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return tuple(map(type, typing.get_args(annotation)))
    if origin in (typing.Union, types.UnionType):
        members = [_classes_of(each) for each in typing.get_args(annotation)]
        return tuple(cls for each in members for cls in each) if all(members) else _UNKNOWN
    if origin is not None:
        annotation = origin
    if typing.is_typeddict(annotation):
        return (dict,)
    if not isinstance(annotation, type) or getattr(annotation, "_is_protocol", False):
        return _UNKNOWN
    return _ALSO.get(annotation, (annotation,))


def _concrete(annotation: Any, base: type[Any]) -> list[Any]:
    return [leaf for leaf in leaves(annotation) if is_message(leaf, base)]
