"""Event handlers by event type, taken from a function's annotations or given explicitly."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from eventstore.errors import DeciderError
from eventstore.messages.events import RecordedEvent
from eventstore.messages.functions import annotations_of, called, is_message, leaves, name_of
from eventstore.messages.types import Event

EventHandler = Callable[[Any, RecordedEvent], Awaitable[None]]
"""Awaited with the event and with its record: ids, version, position, time."""

E = TypeVar("E", bound=Event)


class EventHandlers:
    """The handlers of one subscriber; raises `DeciderError` for handlers that cannot work."""

    def __init__(self, subscriber: str) -> None:
        self._subscriber = subscriber
        self._by_type: dict[type[Event], EventHandler] = {}
        self._for_all: EventHandler | None = None

    @property
    def event_types(self) -> list[type[Event]] | None:
        """The events that have handlers; None for all events."""
        return None if self._for_all is not None else list(self._by_type)

    def find(self, event: type[Event]) -> EventHandler | None:
        """The handler of this type of event."""
        return self._by_type.get(event, self._for_all)

    def add(self, events: Iterable[type[Event]], handler: EventHandler) -> None:
        """Call `handler` for these types; if none are given, for all without an own handler."""
        types, where = list(events), self._where(handler)
        if not inspect.iscoroutinefunction(called(handler)):
            raise DeciderError(f"{where}: must be async")
        for event in types:
            if not is_message(event, Event):
                raise DeciderError(f"{where}: {event!r} is no event")
            if self._by_type.setdefault(event, handler) is not handler:
                raise DeciderError(
                    f"{self._where(handler)}: {event.__name__} already has a handler"
                )
        if not types:
            if self._for_all is not None:
                raise DeciderError(f"{where}: a second handler of all events")
            self._for_all = handler

    def add_annotated(self, function: Callable[[E, RecordedEvent], Awaitable[None]]) -> None:
        """Call it for the event, or union of events, that its first parameter is annotated with."""
        where = self._where(function)
        parameters, _ = annotations_of(function, where)
        if len(parameters) != 2:
            raise DeciderError(f"{where}: takes an event and its record")
        events = list(leaves(parameters[0]))
        if not all(is_message(each, Event) for each in events):
            raise DeciderError(f"{where}: annotate the first parameter with the event it is for")
        self.add(events, function)

    def _where(self, handler: EventHandler) -> str:
        return f"subscriber {self._subscriber}, handler {name_of(handler)}"
