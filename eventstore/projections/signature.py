"""Signatures of handlers: which events they are for, by their annotations, and their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventstore.errors import ProjectionError
from eventstore.messages.events import RecordedEvent, StoredEvent
from eventstore.messages.functions import (
    annotations_of,
    count_positional,
    is_async,
    leaves,
    name_of,
)
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.types import Event


class Signature:
    """The name, the events and the parameters of a handler; raises `ProjectionError`.

    `events` are the annotation of its first parameter; `takes_record` is whether it has a second
    one, for the recorded event. `takes_stored` is whether it is for the stored events themselves,
    of any type; then `events` is empty.
    """

    def __init__(self, projection: str, function: Callable[..., Any]) -> None:
        self.name = name_of(function)
        self.where = f"projection {projection}, handler {self.name}"
        self.is_async = is_async(function)
        try:
            self.takes_record = count_positional(function, 1, 2) == 2
        except TypeError as error:
            raise ProjectionError(
                f"{self.where}: takes an event and, optionally, its record: {error}"
            ) from error
        annotations, _ = annotations_of(function, self.where, ProjectionError)
        parameters = (*annotations, None)
        self.takes_stored = parameters[0] is StoredEvent
        self.events = [] if self.takes_stored else self._events(parameters[0])
        if self.takes_stored and self.takes_record:
            raise ProjectionError(f"{self.where}: a handler of StoredEvent has no other parameter")
        if self.takes_record and parameters[1] not in {None, RecordedEvent}:
            raise ProjectionError(f"{self.where}: the second parameter is the RecordedEvent")

    def _events(self, annotation: Any) -> list[type[Event]]:
        events = list(leaves(annotation))
        if not all(map(_is_event, events)):
            raise ProjectionError(
                f"{self.where}: its first parameter must be annotated with the event it is for, "
                "a union of events, or StoredEvent"
            )
        return events


def _is_event(leaf: Any) -> bool:
    """Whether it is an event with a subject, an opaque one, or `Event` itself, which means all."""
    if not isinstance(leaf, type) or not issubclass(leaf, Event):
        return False
    return leaf in (Event, OpaqueEvent) or hasattr(leaf, "__aggregate__")
