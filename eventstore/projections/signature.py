"""What a handler says of itself by its annotations: which events it is for, and what it takes."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from eventstore.errors import ProjectionError
from eventstore.messages.envelope import RecordedEvent, StoredEvent
from eventstore.messages.types import Event

__all__ = ["Signature", "hints_of"]


class Signature:
    """The name, the events and the parameters of a handler; raises `ProjectionError`.

    `events` are what its first parameter is annotated with; `takes_record` is whether it has a
    second one, for the recorded event. `takes_stored` is whether it is for the stored events
    themselves, of whatever type, and `events` are none.
    """

    def __init__(self, projection: str, function: Callable[..., Any]) -> None:
        self.name = getattr(function, "__name__", repr(function))
        self.where = f"projection {projection}, handler {self.name}"
        self.is_async = inspect.iscoroutinefunction(function)
        parameters = list(inspect.signature(function).parameters)
        if len(parameters) not in {1, 2}:
            raise ProjectionError(f"{self.where}: takes an event and, if it likes, its record")
        self.takes_record = len(parameters) == 2
        hints = hints_of(function, self.where)
        wanted = hints.get(parameters[0])
        self.takes_stored = wanted is StoredEvent
        self.events = [] if self.takes_stored else self._events(wanted)
        if self.takes_stored and self.takes_record:
            raise ProjectionError(f"{self.where}: a StoredEvent is all there is, and comes alone")
        if self.takes_record and hints.get(parameters[1], RecordedEvent) is not RecordedEvent:
            raise ProjectionError(f"{self.where}: the second parameter is the RecordedEvent")

    def _events(self, annotation: Any) -> list[type[Event]]:
        leaves = list(_leaves(annotation))
        if not all(_is_event(leaf) for leaf in leaves):
            raise ProjectionError(
                f"{self.where}: its first parameter must be annotated with the event it is for, "
                "a union of events, or StoredEvent"
            )
        return leaves


def hints_of(function: Callable[..., Any], where: str) -> dict[str, Any]:
    """The annotations of a handler, evaluated; raises `ProjectionError`, which says `where`."""
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise ProjectionError(
            f"{where}: annotation not understood, {error}; define or import the types in the module"
        ) from error


def _leaves(annotation: Any) -> Iterator[Any]:
    inner = typing.get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _leaves(each)


def _is_event(leaf: Any) -> bool:
    """Whether it is an event with a subject, or `Event`, which stands for all."""
    if not isinstance(leaf, type) or not issubclass(leaf, Event):
        return False
    return leaf is Event or hasattr(leaf, "__aggregate__")
