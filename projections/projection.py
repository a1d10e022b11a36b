"""Projections: a name, a version, and handlers that turn an event into SQL statements.

    flakes = Projection("flakes", version=1, tables=[flake])

    @flakes.handles
    def created(event: FlakeCreated, recorded: RecordedEvent) -> Statement:
        return insert(flake).values(id=recorded.aggregate_id, path=event.path)

Handlers are pure: they return statements and execute none. Which handler is for which event is
read from the annotation of its first parameter.

To build a statement takes SQLAlchemy ten times as long as to execute one that it knows. Where that
counts, a handler returns a statement made once, `Bound` to the values of the event:

    _created = insert(flake)

    @flakes.handles
    def created(event: FlakeCreated, recorded: RecordedEvent) -> Bound:
        return Bound(_created, {"id": recorded.aggregate_id, "path": event.path})
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, overload

from sqlalchemy import Delete, Insert, Table, Update

from eventstore.envelope import RecordedEvent
from eventstore.errors import InvalidSubject, ProjectionError
from eventstore.messages import Event
from eventstore.subjects import check_name

__all__ = ["Bound", "Change", "Changes", "Projection", "Statement"]

Statement = Insert | Update | Delete
"""One change of a read model."""


class Bound(NamedTuple):
    """A statement made once, and the values for this time.

    `values` are columns to insert or set, and the statement's own `bindparam`s, whose names must
    not be those of columns.
    """

    statement: Statement
    values: Mapping[str, Any]


Change = Statement | Bound
"""One change of a read model, with or without separate values."""

Changes = Change | Iterable[Change] | None
"""What a handler returns: one change, several in their order, or none."""

E = TypeVar("E", bound=Event)


class Projection:
    """How events become the rows of some tables.

    `name` identifies its checkpoint; `version` is to be raised with every change of a handler
    that would have made other rows; `tables` are all tables it writes, and no other projection
    may write them. Raises `ProjectionError` for what cannot work.
    """

    def __init__(self, name: str, *, version: int = 1, tables: Iterable[Table]) -> None:
        try:
            self.name = check_name("projection", name)
        except InvalidSubject as error:
            raise ProjectionError(str(error)) from error
        self.version = version
        self.tables = tuple(tables)
        self._handlers: dict[type[Event], Callable[[Any, RecordedEvent], Changes]] = {}
        if version < 1:
            raise ProjectionError(f"projection {name}: version must be 1 or more")
        if not self.tables:
            raise ProjectionError(f"projection {name}: name the tables that it writes")

    @overload
    def handles(self, function: Callable[[E], Changes], /) -> Callable[[E], Changes]: ...

    @overload
    def handles(
        self, function: Callable[[E, RecordedEvent], Changes], /
    ) -> Callable[[E, RecordedEvent], Changes]: ...

    def handles(self, function: Callable[..., Changes], /) -> Callable[..., Changes]:
        """Register the handler of the events its first parameter is annotated with.

        It is given the event and, where it takes a second parameter, the recorded event with the
        aggregate's id, version, position and time. One that is annotated with `Event` itself is
        for every event that has no handler of its own, of whatever domain. Raises
        `ProjectionError` where the annotation does not name events, or an event has a handler
        already.
        """
        signature = _Signature(self.name, function)
        handler = function if signature.count == 2 else _without_recorded(function)
        for event in signature.events:
            if event in self._handlers:
                raise ProjectionError(
                    f"projection {self.name}: {event.__name__} already has a handler; "
                    f"{signature.name} is a second"
                )
            self._handlers[event] = handler
        return function

    @property
    def event_types(self) -> list[type[Event]]:
        """The events it has handlers for; `Event` stands for all others."""
        return list(self._handlers)

    def wants(self, event: type[Event]) -> bool:
        """Whether it has a handler for this type of event."""
        return event in self._handlers or Event in self._handlers

    def statements(self, recorded: RecordedEvent) -> tuple[Change, ...]:
        """The changes that an event leads to, in their order; none for an event it does not want.

        Raises whatever the handler raises, and `ProjectionError` where it returns something else
        than statements on the projection's own tables.
        """
        handler = self._handlers.get(type(recorded.data)) or self._handlers.get(Event)
        if handler is None:
            return ()
        returned = handler(recorded.data, recorded)
        if returned is None:
            return ()
        found = (returned,) if isinstance(returned, Change) else tuple(returned)
        for change in found:
            self._check(change.statement if isinstance(change, Bound) else change, recorded)
        return found

    def _check(self, statement: object, recorded: RecordedEvent) -> None:
        if not isinstance(statement, Statement):
            raise ProjectionError(
                f"projection {self.name}: the handler of {recorded.type} returned "
                f"{type(statement).__name__}, not insert(), update() or delete()"
            )
        if statement.table not in self.tables:
            raise ProjectionError(
                f"projection {self.name}: the handler of {recorded.type} writes "
                f"{statement.table}, which is not among its tables"
            )


class _Signature:
    """What a handler says of itself by its annotations."""

    def __init__(self, projection: str, function: Callable[..., Any]) -> None:
        self.name = getattr(function, "__name__", repr(function))
        self._where = f"projection {projection}, handler {self.name}"
        if inspect.iscoroutinefunction(function):
            raise ProjectionError(f"{self._where}: is async; it only returns statements")
        parameters = list(inspect.signature(function).parameters)
        self.count = len(parameters)
        if self.count not in {1, 2}:
            raise ProjectionError(f"{self._where}: takes an event and, if it likes, its record")
        hints = self._hints(function)
        self.events = self._events(hints.get(parameters[0]))
        if self.count == 2 and hints.get(parameters[1], RecordedEvent) is not RecordedEvent:
            raise ProjectionError(f"{self._where}: the second parameter is the RecordedEvent")

    def _hints(self, function: Callable[..., Any]) -> dict[str, Any]:
        try:
            return typing.get_type_hints(function)
        except NameError as error:
            raise ProjectionError(
                f"{self._where}: annotation not understood, {error}; "
                "define or import the types in the module"
            ) from error

    def _events(self, annotation: Any) -> list[type[Event]]:
        leaves = list(_leaves(annotation))
        if not all(_is_event(leaf) for leaf in leaves):
            raise ProjectionError(
                f"{self._where}: its first parameter must be annotated with the event it is for, "
                "or a union of events"
            )
        return leaves


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


def _without_recorded(
    function: Callable[[Any], Changes],
) -> Callable[[Any, RecordedEvent], Changes]:
    return lambda event, _recorded: function(event)
