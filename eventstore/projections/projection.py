"""Projections: a name, a version, and handlers that turn an event into SQL statements.

    flakes = Projection("flakes", version=1, tables=[flake])

    @flakes.handles
    def created(event: FlakeCreated, recorded: RecordedEvent) -> Statement:
        return insert(flake).values(id=recorded.aggregate_id, path=event.path)

Handlers are pure: they return statements and execute none. The annotation of a handler's first
parameter is the event it is for.

Building a statement takes SQLAlchemy ten times as long as executing a cached one. Where that
matters, a handler returns a statement built once, as a `BoundStatement` with the event's values:

    _created = insert(flake)

    @flakes.handles
    def created(event: FlakeCreated, recorded: RecordedEvent) -> Bound:
        return Bound(_created, {"id": recorded.aggregate_id, "path": event.path})

Of many events, those with the same statement are then sent to the database together. Changes keep
their order, unless the tables prove that it does not matter, and an update whose values are all
overwritten by a later one may be left out; only a trigger could see it.

An index of all recorded events needs no data. Its only handler is called with each event of the log
as it is stored, including those that an upcaster drops or that cannot be read:

    @index.handles
    def indexed(stored: StoredEvent) -> Bound:
        return Bound(_add, {"position": stored.position, "type": stored.envelope.type})

A side effect outside of the database, after the rows of an event are committed, is a reaction:

    @flakes.reacts
    async def notify(event: FlakeCreated, recorded: RecordedEvent) -> None:
        await browsers.send(recorded.aggregate_id)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, overload

from sqlalchemy import Delete, Insert, Table, Update

from eventstore.errors import InvalidSubject, ProjectionError
from eventstore.messages.events import LogEvent, RecordedEvent, StoredEvent, UnreadEvent
from eventstore.messages.functions import returns_coroutine
from eventstore.messages.subjects import check_name
from eventstore.messages.types import Event
from eventstore.messages.undecodable import STOPS, text_of
from eventstore.projections.signature import Signature
from eventstore.projections.table_names import check_table_names

Statement = Insert | Update | Delete
"""One change of a read model."""


class BoundStatement(NamedTuple):
    """A statement built once, and the values of one execution.

    `values` are columns to insert or set, and the statement's own `bindparam`s, whose names must
    not be those of columns.
    """

    statement: Statement
    values: Mapping[str, Any]


Change = Statement | BoundStatement
"""One change of a read model, with or without separate values."""

# `isinstance` takes a third of the time with a tuple.
_STATEMENTS = (Insert, Update, Delete)
_CHANGES = (BoundStatement, *_STATEMENTS)

Changes = Change | Iterable[Change] | None
"""What a handler returns: one change, several in order, or none."""

Reaction = Callable[[Any, RecordedEvent], Awaitable[None]]
"""Awaited with the event and its record: ids, version, position, time."""

OnPoison = Literal["stop", "park"]
"""What a projection does about an event that it cannot take: stop before it, or park it."""

E = TypeVar("E", bound=Event)


class Projection:
    """How events become the rows of some tables.

    `name` identifies its checkpoint; `version` must be incremented with every change of a handler
    that leads to other rows, or of a table's definition; `tables` are all tables that it writes,
    and no other projection may write them; there is at least one: for side effects alone, use an
    `EventSubscriber`.

    An event that cannot be read, or that its handler or the database refuses, is retried `retries`
    times. Then the projection stops before it, or, with `on_poison="park"`, goes on without that
    event and all later ones of the same aggregate, until they are retried in their order.

    Raises `ProjectionError` for what cannot work.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        tables: Iterable[Table],
        on_poison: OnPoison = "stop",
        retries: int = 5,
    ) -> None:
        try:
            self.name = check_name("projection", name)
        except InvalidSubject as error:
            raise ProjectionError(str(error)) from error
        self.version = version
        self.tables = tuple(tables)
        self.on_poison = on_poison
        self.retries = retries
        self._reactions: dict[type[Event], Reaction] = {}
        self._handlers: dict[type[Event], Callable[[Any, RecordedEvent], Changes]] = {}
        self._indexes: Callable[[StoredEvent], Changes] | None = None
        if version < 1:
            raise ProjectionError(f"projection {name}: version must be 1 or more")
        if not self.tables:
            raise ProjectionError(f"projection {name}: name the tables that it writes")
        names = [table.fullname for table in self.tables]
        twice = sorted({each for each in names if names.count(each) > 1})
        if twice:
            raise ProjectionError(f"projection {name}: names table {', '.join(twice)} twice")
        check_table_names(f"projection {name}", self.tables)
        if on_poison not in {"stop", "park"}:
            raise ProjectionError(
                f"projection {name}: on_poison is 'stop' or 'park', not {on_poison!r}"
            )
        if retries < 0:
            raise ProjectionError(f"projection {name}: retries must be 0 or more")
        for column in (column for table in self.tables for column in table.columns):
            if column.identity is not None and column.identity.always:
                raise ProjectionError(
                    f"projection {name}: column {column} is Identity(always=True), so that a "
                    "rebuild could not copy its rows; use Identity()"
                )

    @overload
    def handles(
        self, function: Callable[[StoredEvent], Changes], /
    ) -> Callable[[StoredEvent], Changes]: ...

    @overload
    def handles(self, function: Callable[[E], Changes], /) -> Callable[[E], Changes]: ...

    @overload
    def handles(
        self, function: Callable[[E, RecordedEvent], Changes], /
    ) -> Callable[[E, RecordedEvent], Changes]: ...

    def handles(self, function: Callable[..., Changes], /) -> Callable[..., Changes]:
        """Register the handler of the events its first parameter is annotated with.

        It is called with the event and, if it has a second parameter, the recorded event with the
        aggregate's id, version, position and time. One that is annotated with `Event` itself is
        for every event without a handler of its own, of any domain. One that is annotated with
        `StoredEvent` is for every event of the log, each once, and is the only handler. Raises
        `ProjectionError` if the annotation is not of events, or an event already has a handler.
        """
        signature = Signature(self.name, function)
        if signature.is_async:
            raise ProjectionError(f"{signature.where}: is async; it only returns statements")
        if self._indexes is not None or (signature.takes_stored and self._handlers):
            raise ProjectionError(
                f"{signature.where}: a handler of StoredEvent is for every event, and the only one"
            )
        if signature.takes_stored:
            self._indexes = function
        else:
            self._register(self._handlers, signature, function)
        return function

    def reacts(self, function: Callable[..., Awaitable[None]], /) -> Callable[..., Awaitable[None]]:
        """Register a side effect outside of the database for the events of its annotation.

        It is called after the event's rows are committed, for one event after another, and only for
        events that arrive after the projection has caught up: never while catching up, in a rebuild
        or for a retried event. It is called at most once: after a crash, a failure, its timeout or
        the stop of the worker it is not repeated. For what must happen, use an `EventSubscriber`.
        It takes an event and, optionally, its record, as handlers do.
        """
        signature = Signature(self.name, function)
        if not returns_coroutine(function):
            raise ProjectionError(f"{signature.where}: a reaction must be async")
        if signature.takes_stored:
            raise ProjectionError(f"{signature.where}: a reaction is to events, not to StoredEvent")
        self._register(self._reactions, signature, function)
        return function

    def _register(
        self,
        registered: dict[type[Event], Callable[[Any, RecordedEvent], Any]],
        signature: Signature,
        function: Callable[..., Any],
    ) -> None:
        handler = function if signature.takes_record else lambda event, _recorded: function(event)
        for event in signature.events:
            if event in registered:
                raise ProjectionError(
                    f"projection {self.name}: {event.__name__} already has a handler; "
                    f"{signature.name} is a second"
                )
            registered[event] = handler

    @property
    def event_types(self) -> list[type[Event]]:
        """The events that it has handlers for; `Event` means all others."""
        return list(self._handlers)

    @property
    def takes_stored(self) -> bool:
        """Whether it is an index of the events as they are stored, of any type."""
        return self._indexes is not None

    def wants(self, event: type[Event]) -> bool:
        """Whether it has a handler for this type of event."""
        return event in self._handlers or Event in self._handlers or self._indexes is not None

    def takes(self, event: LogEvent) -> bool:
        """Whether an event of the log is for it.

        So is one that cannot be read, if it may be an event that it has a handler for: it must not
        be passed over, and `statements` raises why it cannot be read.
        """
        if self._indexes is not None:
            return isinstance(event, UnreadEvent) or event.part == 0
        if isinstance(event, RecordedEvent):
            return type(event.data) in self._handlers or Event in self._handlers
        if event.error is None:
            return False
        return event.types is None or any(map(self.wants, event.types))

    @property
    def has_reactions(self) -> bool:
        """Whether it has reactions."""
        return bool(self._reactions)

    def reaction(self, event: type[Event]) -> Reaction | None:
        """The reaction to this type of event."""
        return self._reactions.get(event) or self._reactions.get(Event)

    def statements(self, recorded: LogEvent) -> tuple[Change, ...]:
        """The changes that an event leads to, in order; none for one that it does not take.

        Raises whatever the handler raises, why an event that it takes cannot be read, and
        `ProjectionError` if the handler returns anything but statements on the projection's own
        tables.
        """
        try:
            returned = self._changes(recorded)
            if returned is None:
                return ()
            found = (returned,) if isinstance(returned, _CHANGES) else tuple(returned)
        except (Exception, *STOPS):
            raise
        except BaseException as error:  # which would end the program
            raise ProjectionError(
                f"projection {self.name}: the handler of {recorded.type} raised "
                f"{type(error).__name__}: {text_of(error)}"
            ) from error
        for change in found:
            statement = change.statement if isinstance(change, BoundStatement) else change
            if not (isinstance(statement, _STATEMENTS) and statement.table in self.tables):
                raise self._refused(statement, recorded)
        return found

    def _changes(self, event: LogEvent) -> Changes:
        if self._indexes is None and isinstance(event, RecordedEvent):
            handler = self._handlers.get(type(event.data)) or self._handlers.get(Event)
            return None if handler is None else handler(event.data, event)
        if not self.takes(event):
            return None
        if self._indexes is not None:
            return self._indexes(event)
        if isinstance(event, UnreadEvent) and event.error is not None:
            raise event.error
        return None

    def _refused(self, statement: object, recorded: LogEvent) -> ProjectionError:
        what = f"projection {self.name}: the handler of {recorded.type}"
        if not isinstance(statement, _STATEMENTS):
            returned = type(statement).__name__
            return ProjectionError(
                f"{what} returned {returned}, not insert(), update() or delete()"
            )
        return ProjectionError(f"{what} writes {statement.table}, which is not among its tables")
