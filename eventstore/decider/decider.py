"""Deciders: an initial state, `evolve` and `decide`, all pure.

    flake = Decider("flake", initial=Flake)

    @flake.decides
    def create(flake: Flake, command: CreateFlake) -> FlakeCreated: ...

    @flake.evolves
    def created(flake: Flake, event: FlakeCreated) -> Flake: ...

The type annotations determine which function handles which message.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import CoroutineType
from typing import Any, Generic, TypeVar, overload

from msgspec import Struct

from eventstore.decider.function import (
    DeciderFunction,
    check_not_async,
    is_awaitable,
    is_state,
    may_be,
    state_types,
)
from eventstore.decider.state_shape import check_shape
from eventstore.errors import DeciderError, EventStoreError, HandlerFailed, Rejected, UnknownType
from eventstore.messages.functions import name_of
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.subjects import check_name
from eventstore.messages.types import Command, Event
from eventstore.messages.undecodable import STOPS, text_of
from eventstore.messages.upcasting import Schema, Upcaster

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)

_Data = dict[str, Any]
_Upcast = Callable[[_Data], _Data]
_Split = Callable[[_Data], Iterable[tuple[str, _Data]]]


_INITIAL: Any = object()  # no state is given: None may be one

Decision = Event | Iterable[Event] | None
"""The result of deciding a command: one event, several, or none."""


class CommandContext(Struct, frozen=True, kw_only=True, gc=False):
    """The context of a command, for deciders that take it as a third parameter.

    Deciders have no clock and no random source of their own: `time` is the time at which the
    command is decided (UTC), and new ids are derived from `command_id`. `actor` is whom the sender
    claims to act for; `authenticated_as` is the sender according to the server, None if that is not
    known (see `eventstore.commands.senders`).
    """

    command_id: str
    correlation_id: str
    aggregate_id: str
    time: datetime
    actor: str | None = None
    authenticated_as: str | None = None


class Decider(Generic[S]):
    """The rules of one kind of aggregate.

    `initial` makes the state of an aggregate that has no events yet. Deciding and evolving must
    be pure: no I/O, no clock, no random. Raises `DeciderError` for an `initial` that makes nothing,
    a function whose annotations do not name its message, one that is asynchronous, or a second
    function for a message.

    With `snapshot_every`, a snapshot of the state is stored after so many events, and loading an
    aggregate reads only later events. The state's type, which is that of `initial()`, must be one
    that msgspec encodes and decodes. Raise `state_version` whenever the same events lead to another
    state than before; a change of the type's fields is detected without that.
    """

    def __init__(
        self,
        aggregate: str,
        *,
        initial: Callable[[], S],
        snapshot_every: int | None = None,
        state_version: int = 1,
    ) -> None:
        self.aggregate = check_name("aggregate", aggregate)
        if not callable(initial):
            raise DeciderError(
                f"{aggregate}: initial is a {type(initial).__name__}; give what makes the state, "
                "such as its class"
            )
        check_not_async(initial)
        self._initial = initial
        self.snapshot_every = snapshot_every
        self.state_version = state_version
        self._decides: dict[type[Command], Callable[[S, Any, CommandContext], Decision]] = {}
        self._evolves: dict[type[Event], Callable[[S, Any], S]] = {}
        self._decided: dict[type[Event], str] = {}
        self._upcasters: list[Upcaster] = []
        self._states: tuple[Any, ...] = ()
        self._state_types: tuple[type, ...] = ()

    @overload
    def decides(self, function: Callable[[S, C], Decision], /) -> Callable[[S, C], Decision]: ...

    @overload
    def decides(
        self, function: Callable[[S, C, CommandContext], Decision], /
    ) -> Callable[[S, C, CommandContext], Decision]: ...

    def decides(self, function: Callable[..., Decision], /) -> Callable[..., Decision]:
        """Register the function that decides the command its second parameter is annotated with.

        It is called with the state and the command, and a `CommandContext` if it takes a third
        parameter; it returns events, or raises `Rejected`.
        """
        signature = DeciderFunction(function, counts=(2, 3))
        signature.check_third(CommandContext)
        for command in signature.messages(Command):
            _claim(self.aggregate, command, self._decides, function)
            self._decides[command] = (
                function if signature.count == 3 else _without_context(function)
            )
        for event in signature.returned(Event):
            self._decided[event] = signature.name
        return function

    def evolves(self, function: Callable[[S, E], S], /) -> Callable[[S, E], S]:
        """Register the function that applies the event its second parameter is annotated with."""
        signature = DeciderFunction(function, counts=(2,))
        signature.check_returns_state()
        self._states += (signature.state, signature.returns)
        self._state_types = ()
        for event in signature.messages(Event):
            _claim(self.aggregate, event, self._evolves, function)
            self._evolves[event] = function
        return function

    @overload
    def upcasts(
        self, event: str, version: int, /, *, to: Schema | None = None
    ) -> Callable[[_Upcast], _Upcast]: ...

    @overload
    def upcasts(
        self, event: str, version: int, /, *, to: list[Schema]
    ) -> Callable[[_Split], _Split]: ...

    def upcasts(
        self, event: str, version: int, /, *, to: Schema | Sequence[Schema] | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the function that converts an older version of an event's schema.

        It returns the data of `to`: by default the next version of the same type, else a version of
        the given type. With a list it returns any number of pairs of type name and data: the stored
        event is then read as these, or as nothing. Data are JSON objects; see
        `eventstore.messages.upcasting` for an example. Raises `DeciderError` for an illegal schema
        or function.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._upcasters.append(Upcaster.of((event, version), to, function))
            return function

        return register

    def initial(self) -> S:
        """The state of an aggregate without events.

        Raises `DeciderError` if it would have to be awaited, `HandlerFailed` if the function raised
        an error of this library, and any other error of the function.
        """
        try:
            state = self._initial()
        except EventStoreError as error:
            raise _failed(self._initial, "its call", error) from error
        except (Exception, *STOPS):
            raise
        except BaseException as error:  # which would end the program
            raise _failed(self._initial, "its call", error) from error
        if is_awaitable(state):
            raise _returned(state, self._initial, "its call", "the initial state")
        return state

    def decide(self, state: S, command: Command, context: CommandContext) -> tuple[Event, ...]:
        """The events the command leads to.

        Raises `Rejected`, `UnknownType`, `DeciderError` if the function does not return events,
        `HandlerFailed` if it raised another error of this library or one that would end the
        program, and any other error of the function.
        """
        function = self._decides.get(type(command))
        if function is None:
            raise UnknownType(f"{self.aggregate} does not decide {type(command).__name__}")
        try:
            decision = function(state, command, context)
            events = (decision,) if isinstance(decision, Event) else _events_of(decision)
        except Rejected:
            raise
        except EventStoreError as error:
            raise _failed(function, type(command).__name__, error) from error
        except (Exception, *STOPS):
            raise
        except BaseException as error:
            raise _failed(function, type(command).__name__, error) from error
        if events is None:
            raise _returned(decision, function, type(command).__name__, "events, or None")
        for event in events:
            if not isinstance(event, Event):
                raise _returned(event, function, type(command).__name__, "events only")
        return events

    def evolve(self, state: S, event: Event) -> S:
        """The state after an event; an `OpaqueEvent` does not change it.

        Raises `UnknownType`, `DeciderError` if the function does not return a state,
        `HandlerFailed` if it raised an error of this library, and any other error of the function.
        """
        function = self._evolves.get(type(event))
        if function is None and isinstance(event, OpaqueEvent):
            return state
        if function is None:
            raise UnknownType(f"{self.aggregate} does not evolve by {type(event).__name__}")
        try:
            evolved = function(state, event)
        except EventStoreError as error:
            raise _failed(function, type(event).__name__, error) from error
        except (Exception, *STOPS):
            raise
        except BaseException as error:
            raise _failed(function, type(event).__name__, error) from error
        if not self._state_types:
            self._state_types = state_types(self._states, type(self.initial()))
        if not is_state(evolved, self._state_types):
            raise _returned(evolved, function, type(event).__name__, "the state after the event")
        return evolved

    def fold(self, events: Iterable[Event], state: S = _INITIAL) -> S:
        """The state after all of `events`, from `state`, which may be None, or the initial one."""
        folded = self.initial() if state is _INITIAL else state
        for event in events:
            folded = self.evolve(folded, event)
        return folded

    @property
    def command_types(self) -> list[type[Command]]:
        """The commands it decides."""
        return list(self._decides)

    @property
    def event_types(self) -> list[type[Event]]:
        """The events it applies."""
        return list(self._evolves)

    @property
    def upcasters(self) -> list[Upcaster]:
        """The upcasters from older versions of its events."""
        return list(self._upcasters)

    def check(self) -> None:
        """Raise `DeciderError` for an incomplete decider.

        That is one whose initial state cannot be made, that may decide an event which it does not
        apply, or whose state cannot be stored in snapshots though `snapshot_every` is set.
        """
        try:
            self.initial()
        except Exception as error:  # of the function
            raise DeciderError(
                f"{self.aggregate}: the initial state cannot be made: {text_of(error)}"
            ) from error
        for event, name in self._decided.items():
            if event not in self._evolves:
                raise DeciderError(
                    f"{self.aggregate}: {name} may return {event.__name__}, but no function "
                    "evolves by it; add one with @evolves"
                )
        every = 1 if self.snapshot_every is None else self.snapshot_every
        if not (_is_count(every) and _is_count(self.state_version)):
            raise DeciderError(
                f"{self.aggregate}: snapshot_every and state_version begin at 1, as whole numbers; "
                f"they are {self.snapshot_every!r} and {self.state_version!r}"
            )
        if self.snapshot_every is not None:
            self._check_snapshots()

    def _check_snapshots(self) -> None:
        state: Any = type(self.initial())
        if not may_be(self._states[1::2], state):
            raise DeciderError(
                f"{self.aggregate}: no snapshot can be made, because initial() is a "
                f"{state.__name__}, and no function that evolves returns one; begin with a state "
                "of the same type, or leave out snapshot_every"
            )
        try:
            check_shape(state)
        except Exception as error:  # of default factories, too
            problem = next(iter(str(error).splitlines()), type(error).__name__)
            raise DeciderError(
                f"{self.aggregate}: no snapshot can be made of a {state.__name__}: "
                f"{problem}; make the state a msgspec Struct, or leave out "
                "snapshot_every"
            ) from error


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _claim(aggregate: str, message: Any, known: dict[Any, Any], function: Any) -> None:
    if message.__aggregate__ != aggregate:
        raise DeciderError(
            f"{message.__name__} belongs to {message.__aggregate__}, not to {aggregate}"
        )
    if message in known:
        raise DeciderError(
            f"{message.__name__} already has a function; {name_of(function)} is a second"
        )


def _without_context(
    function: Callable[[Any, Any], Decision],
) -> Callable[[Any, Any, CommandContext], Decision]:
    @functools.wraps(function)
    def decide(state: Any, command: Any, _context: CommandContext) -> Decision:
        return function(state, command)

    return decide


def _events_of(decision: Any) -> tuple[Event, ...] | None:
    """The events of a decision that is not a single one; None for a value that is no decision."""
    if decision is None:
        return ()
    is_several = isinstance(decision, Iterable) and not is_awaitable(decision)
    return tuple(decision) if is_several else None


def _failed(function: Any, on: str, error: BaseException) -> HandlerFailed:
    text = text_of(error)
    return HandlerFailed(f"{name_of(function)} failed on {on}: {type(error).__name__}: {text}")


def _returned(value: Any, function: Any, on: str, expected: str) -> DeciderError:
    if isinstance(value, CoroutineType):
        value.close()  # which is never awaited
    return DeciderError(
        f"{name_of(function)} returned {type(value).__name__} for {on}; it must return {expected}"
    )
