"""Event handlers by event type, taken from a function's annotations or given explicitly.

What a handler needs besides the event and its record are its keyword-only parameters: they get the
resources of these names when the handlers are bound.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from eventstore.errors import DeciderError
from eventstore.messages.events import RecordedEvent
from eventstore.messages.functions import (
    annotations_of,
    is_message,
    leaves,
    name_of,
    returns_coroutine,
)
from eventstore.messages.types import Event, Message

EventHandler = Callable[..., Awaitable[None]]
"""Awaited with the event and with its record: ids, version, position, time.

Resources, such as a command client, are passed to its keyword-only parameters.
"""


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

    def bound(self, resources: Mapping[str, Any]) -> EventHandlers:
        """The handlers with the resources that they need, by name; others are not passed."""
        made = EventHandlers(self._subscriber)
        made._by_type = {
            event: self._with_resources(handler, resources)
            for event, handler in self._by_type.items()
        }
        if self._for_all is not None:
            made._for_all = self._with_resources(self._for_all, resources)
        return made

    def _with_resources(self, handler: EventHandler, resources: Mapping[str, Any]) -> EventHandler:
        needed = _resources_of(handler)
        if missing := sorted(needed - resources.keys()):
            raise DeciderError(
                f"{self._where(handler)}: needs {', '.join(missing)}, which is not given; there is "
                f"{', '.join(sorted(resources)) or 'no resource'}"
            )
        given = {name: resources[name] for name in needed}
        return functools.partial(handler, **given) if given else handler

    def add(self, events: Iterable[type[Event]], handler: EventHandler) -> None:
        """Call `handler` for these types; if none are given, for all without an own handler."""
        types = list(events)
        where = self._where(handler)
        _check_async(where, handler)
        _check_parameters(where, handler)
        for event in types:
            if not is_message(event, Event):
                raise DeciderError(f"{where}: {event!r} is not an event")
            if self._by_type.setdefault(event, handler) is not handler:
                raise DeciderError(f"{where}: {event.__name__} already has a handler")
        if not types:
            if self._for_all is not None:
                raise DeciderError(f"{where}: a second handler of all events")
            self._for_all = handler

    def add_annotated(self, function: EventHandler) -> None:
        """Call it for the event, or union of events, that its first parameter is annotated with."""
        where = self._where(function)
        _check_async(where, function)
        _check_parameters(where, function)
        parameters, _ = annotations_of(function, where)
        events = list(leaves(parameters[0])) if parameters else []
        if not events or not all(is_message(each, Event) for each in events):
            raise DeciderError(f"{where}: annotate the first parameter with the event it is for")
        self.add(events, function)

    def _where(self, handler: EventHandler) -> str:
        return f"subscriber {self._subscriber}, handler {name_of(handler)}"


async def handle(handler: Callable[..., Awaitable[object]], recorded: RecordedEvent) -> None:
    """Await a handler; raises `DeciderError` if it returns a message, which would be lost."""
    returned = await handler(recorded.data, recorded)
    if isinstance(returned, Message):
        raise DeciderError(
            f"{name_of(handler)} returned {type(returned).__name__}, which nobody sends: send it "
            "with a CommandClient or an EventPublisher"
        )


def _check_async(where: str, handler: EventHandler) -> None:
    if not callable(handler):
        raise DeciderError(f"{where}: is not a function")
    if not returns_coroutine(handler):
        raise DeciderError(f"{where}: must be async")


def _check_parameters(where: str, handler: EventHandler) -> None:
    """Check that it can be called with an event, its record, and resources by keyword."""
    try:
        resources = dict.fromkeys(_resources_of(handler))
        inspect.signature(handler).bind(None, None, **resources)
    except (TypeError, ValueError) as error:  # ValueError: a partial with too many arguments
        raise DeciderError(
            f"{where}: takes an event and its record, and resources by keyword: {error}"
        ) from error


def _resources_of(handler: EventHandler) -> set[str]:
    """The names of its keyword-only parameters that have no default."""
    return {
        name
        for name, each in inspect.signature(handler).parameters.items()
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty
    }
