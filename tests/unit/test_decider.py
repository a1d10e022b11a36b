from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from collections.abc import Set as AbstractSet
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest
from msgspec import Struct

from eventstore.decider.decider import CommandContext, Decider
from eventstore.decider.domain import Domain
from eventstore.errors import (
    Conflict,
    DeciderError,
    DuplicateId,
    HandlerFailed,
    InvalidSubject,
    Rejected,
    RequestTimeout,
    UnknownType,
)
from eventstore.messages.functions import name_of
from eventstore.messages.types import Command, Event
from eventstore.testing import START

if TYPE_CHECKING:
    from somewhere import Unseen  # type: ignore[import-not-found]


class Open(Command, subject="door.open"):
    pass


class Push(Command, subject="door.push"):
    times: int = 1


class Close(Command, subject="door.close"):
    pass


class Knock(Command, subject="door.knock"):
    pass


class Opened(Event, subject="door.opened"):
    pass


class Closed(Event, subject="door.closed"):
    pass


class Knocked(Event, subject="door.knocked"):
    by: str


class Ring(Command, subject="bell.ring"):
    pass


class Rung(Event, subject="bell.rung"):
    pass


class Door(Struct, frozen=True):
    open: bool = False
    knocks: int = 0


CONTEXT = CommandContext(
    command_id="c1", correlation_id="c0", aggregate_id="d1", time=START, actor="ann"
)


def make_door() -> Decider[Door]:
    door = Decider("door", initial=Door)

    @door.decides
    def move(door: Door, command: Open | Push) -> Opened | None:
        return None if door.open else Opened()

    @door.decides
    def close(door: Door, command: Close) -> Iterator[Closed]:
        if not door.open:
            raise Rejected("closed", "it is closed already")
        yield Closed()

    @door.decides
    def knock(door: Door, command: Knock, context: CommandContext) -> list[Knocked | Opened]:
        return [Knocked(by=f"{context.actor} at {context.time:%Y}"), Opened()]

    @door.evolves
    def moved(door: Door, event: Opened | Closed) -> Door:
        return Door(isinstance(event, Opened), door.knocks)

    @door.evolves
    def knocked(door: Door, event: Knocked) -> Door:
        return Door(door.open, door.knocks + 1)

    return door


def make_bell() -> Decider[Door]:
    bell = Decider("bell", initial=Door)

    @bell.decides
    def ring(bell: Door, command: Ring) -> Rung:
        return Rung()

    @bell.evolves
    def rung(bell: Door, event: Rung) -> Door:
        return bell

    return bell


# Deciding and evolving


@pytest.mark.parametrize("command", [Open(), Push(times=3)])
def test_one_function_may_answer_several_commands(command: Command) -> None:
    assert make_door().decide(Door(), command, CONTEXT) == (Opened(),)


def test_a_decision_may_be_nothing_one_event_or_several() -> None:
    door = make_door()

    assert door.decide(Door(open=True), Open(), CONTEXT) == ()
    assert door.decide(Door(open=True), Close(), CONTEXT) == (Closed(),)
    assert door.decide(Door(), Knock(), CONTEXT) == (Knocked(by="ann at 2026"), Opened())


class Unusual(BaseException):
    pass


@pytest.mark.parametrize("error", [GeneratorExit(), asyncio.CancelledError(), Unusual()], ids=repr)
def test_what_would_end_the_program_is_a_failure(error: BaseException) -> None:
    door = Decider("door", initial=Door)

    @door.decides
    def opens(door: Door, command: Open) -> Opened:
        raise error

    @door.evolves
    def opened(door: Door, event: Opened) -> Door:
        raise error

    with pytest.raises(HandlerFailed, match=f"opens failed on Open: {type(error).__name__}"):
        door.decide(Door(), Open(), CONTEXT)
    with pytest.raises(HandlerFailed, match=f"opened failed on Opened: {type(error).__name__}"):
        door.fold([Opened()])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()], ids=repr)
def test_what_is_meant_to_end_the_program_does(error: BaseException) -> None:
    door = Decider("door", initial=Door)

    @door.decides
    def opens(door: Door, command: Open) -> Opened:
        raise error

    with pytest.raises(type(error)):
        door.decide(Door(), Open(), CONTEXT)


@pytest.mark.parametrize(
    ("decision", "problem"),
    [
        ([Opened(), None], "NoneType"),
        ([Opened], "MessageType"),
        ([[Opened()]], "list"),
        ("opened", "str"),
        ({"opened": True}, "str"),
        ([Open()], "Open"),
    ],
    ids=str,
)
def test_a_decision_is_of_events_only(decision: Any, problem: str) -> None:
    door = Decider("door", initial=Door)

    @door.decides
    def move(door: Door, command: Open) -> Any:
        return decision

    with pytest.raises(DeciderError, match=f"move returned {problem} for Open; it must return"):
        door.decide(Door(), Open(), CONTEXT)


def test_a_rejection_comes_out_of_deciding_even_from_a_generator() -> None:
    with pytest.raises(Rejected, match="closed already"):
        make_door().decide(Door(), Close(), CONTEXT)


def test_a_state_is_the_fold_of_its_events() -> None:
    door = make_door()

    assert door.fold([]) == Door()
    assert door.fold([Opened(), Knocked(by="a"), Closed()]) == Door(open=False, knocks=1)
    assert door.fold(iter([Knocked(by="a")]), Door(open=True, knocks=4)) == Door(True, 5)


def test_none_may_be_a_state() -> None:
    door: Decider[int | None] = Decider("door", initial=int)

    @door.evolves
    def opened(door: int | None, event: Opened) -> int | None:
        return None if door == 0 else 7

    assert door.fold([Opened()]) is None
    assert door.fold([Opened()], None) == door.fold([Opened(), Opened()]) == 7


def test_what_a_decider_does_not_know_is_refused_by_name() -> None:
    door = make_door()

    with pytest.raises(UnknownType, match="door does not decide Ring"):
        door.decide(Door(), Ring(), CONTEXT)
    with pytest.raises(UnknownType, match="door does not evolve by Rung"):
        door.evolve(Door(), Rung())


def test_a_decider_knows_its_types() -> None:
    door = make_door()

    assert door.command_types == [Open, Push, Close, Knock]
    assert door.event_types == [Opened, Closed, Knocked]
    assert (door.aggregate, door.initial()) == ("door", Door())


def test_functions_stay_what_they_are() -> None:
    door = Decider("door", initial=Door)

    def move(door: Door, command: Open) -> Opened:
        return Opened()

    def moved(door: Door, event: Opened) -> Door:
        return Door(open=True)

    assert door.decides(move) is move
    assert door.evolves(moved) is moved


# Deciders put together wrongly


def test_an_aggregate_needs_a_legal_name() -> None:
    with pytest.raises(InvalidSubject, match="aggregate 'The Door'"):
        Decider("The Door", initial=Door)


def unannotated(door, command):  # type: ignore[no-untyped-def]
    return None


def of_the_base_class(door: Door, command: Command) -> None:
    return None


def of_an_event(door: Door, command: Opened) -> None:
    return None


def of_no_message(door: Door, command: int | str) -> None:
    return None


def of_no_parameter() -> None:
    return None


def of_one_parameter(door: Door) -> None:
    return None


def of_four_parameters(door: Door, command: Open, context: CommandContext, more: int) -> None:
    return None


def of_a_keyword(door: Door, command: Open, *, limit: int) -> Opened | None:
    return Opened() if door.knocks < limit else None


def of_another_third(door: Door, command: Close, limit: int = 3) -> Opened:
    return Opened()


def of_a_type_not_seen(door: Door, command: Unseen) -> None:
    return None


def of_another_aggregate(door: Door, command: Ring) -> None:
    return None


def of_a_command_that_is_taken(door: Door, command: Push | Knock) -> None:
    return None


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (unannotated, "unannotated: its second parameter must be annotated with the Command"),
        (of_the_base_class, "of_the_base_class: its second parameter must be annotated"),
        (of_an_event, "of_an_event: its second parameter must be annotated"),
        (of_no_message, "of_no_message: its second parameter must be annotated"),
        (of_no_parameter, "of_no_parameter must take a state and a message"),
        (of_one_parameter, "of_one_parameter must take a state and a message"),
        (of_four_parameters, "of_four_parameters must take a state and a message"),
        (of_a_keyword, "of_a_keyword must take a state and a message: missing .*: 'limit'"),
        (of_another_third, "of_another_third: its third parameter is the CommandContext"),
        (of_a_type_not_seen, "of_a_type_not_seen: annotation not understood"),
        (of_another_aggregate, "Ring belongs to bell, not to door"),
        (of_a_command_that_is_taken, "Push already has a function; of_a_command_that_is_taken"),
    ],
)
def test_a_function_that_cannot_decide_is_refused(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(DeciderError, match=problem):
        make_door().decides(function)


def test_a_function_may_have_been_given_its_other_arguments() -> None:
    door = Decider("door", initial=Door)
    door.decides(partial(of_a_keyword, limit=2))

    assert door.decide(Door(knocks=1), Open(), CONTEXT) == (Opened(),)
    assert door.decide(Door(knocks=2), Open(), CONTEXT) == ()


def evolving_a_command(door: Door, event: Open) -> Door:
    return door


def evolving_without_event(door: Door) -> Door:
    return door


def evolving_with_context(door: Door, event: Opened, context: CommandContext) -> Door:
    return door


def evolving_again(door: Door, event: Opened) -> Door:
    return door


def evolving_anothers(door: Door, event: Rung) -> Door:
    return door


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (evolving_a_command, "must be annotated with the Event class it is for"),
        (evolving_without_event, "evolving_without_event must take a state and a message"),
        (evolving_with_context, "evolving_with_context must take a state and a message"),
        (evolving_again, "Opened already has a function; evolving_again is a second"),
        (evolving_anothers, "Rung belongs to bell, not to door"),
    ],
)
def test_a_function_that_cannot_evolve_is_refused(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(DeciderError) as error:
        make_door().evolves(function)
    assert problem in str(error.value)


def incomplete() -> Decider[Door]:
    door = Decider("door", initial=Door)

    @door.decides
    def knock(door: Door, command: Knock) -> tuple[Knocked, ...] | None:
        return None

    return door


def test_an_event_that_is_decided_must_be_evolved_by() -> None:
    make_door().check()
    with pytest.raises(DeciderError, match="door: knock may return Knocked, but no function"):
        incomplete().check()


class Plain:
    pass


def failing() -> int:
    raise LookupError


class Failing(msgspec.Struct, frozen=True):
    number: int = msgspec.field(default_factory=failing)

    @classmethod
    def beginning(cls) -> Failing:
        return cls(1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"initial": Plain},
            "door: no snapshot can be made of a Plain: .* make the state a msgspec",
        ),
        ({"initial": Failing.beginning}, "no snapshot can be made of a Failing: LookupError; make"),
        ({"snapshot_every": 0}, "door: snapshot_every and state_version begin at 1"),
        ({"state_version": 0}, "door: snapshot_every and state_version begin at 1"),
        ({"snapshot_every": "5"}, "begin at 1, as whole numbers; they are '5' and 1"),
        ({"snapshot_every": 1.5}, "begin at 1, as whole numbers"),
        ({"snapshot_every": True}, "begin at 1, as whole numbers"),
    ],
    ids=["state", "default", "every", "version", "text", "fraction", "truth"],
)
def test_snapshots_that_cannot_be_made_are_refused(options: dict[str, Any], problem: str) -> None:
    decider = Decider[Any]("door", **{"initial": int, "snapshot_every": 1, **options})
    with pytest.raises(DeciderError, match=problem):
        Domain("house", [decider])


def test_without_snapshots_a_state_may_be_anything() -> None:
    assert Domain("house", [Decider("door", initial=Plain)]).decider("door").snapshot_every is None


@pytest.mark.parametrize("initial", [Door(), None, "Door"])
def test_what_makes_no_initial_state_is_refused(initial: Any) -> None:
    with pytest.raises(DeciderError, match=r"door: initial is a .*; give what makes the state"):
        Decider("door", initial=initial)


def test_an_initial_state_that_cannot_be_made_is_refused() -> None:
    initial: Any = open  # which needs an argument
    with pytest.raises(DeciderError, match=r"door: the initial state cannot be made: .* 'file'"):
        Domain("house", [Decider("door", initial=initial)])


# Domains


def test_a_domain_holds_deciders_and_their_types() -> None:
    door, bell = make_door(), make_bell()
    house = Domain("house", [door, bell])

    assert house.name == "house"
    assert (house.decider("door"), house.decider("bell")) == (door, bell)
    assert house.codec.domain == "house"
    assert house.codec.command_types == [Open, Push, Close, Knock, Ring]
    assert house.codec.event_types == [Opened, Closed, Knocked, Rung]


def test_a_domain_can_be_renamed() -> None:
    house = Domain("house", [make_door()])
    hotel = house.renamed("hotel")

    assert (house.name, hotel.name) == ("house", "hotel")
    assert hotel.deciders == house.deciders
    assert hotel.codec.subjects.log_stream == "HOTEL_LOG"


def test_an_unknown_aggregate_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(UnknownType, match="unknown aggregate 'cat'; known are bell, door"):
        Domain("house", [make_door(), make_bell()]).decider("cat")


def test_a_domain_put_together_wrongly_is_refused() -> None:
    with pytest.raises(InvalidSubject, match="domain 'My House'"):
        Domain("My House", [])
    with pytest.raises(DeciderError, match="two deciders are named door"):
        Domain("house", [make_door(), make_door()])
    with pytest.raises(DeciderError, match="no function evolves by it"):
        Domain("house", [incomplete()])


# What a decider's functions must not be, or return


class Picky:
    async def decide(self, door: Door, command: Open) -> Opened:
        return Opened()

    async def __call__(self, door: Door, command: Open) -> Opened:
        return Opened()


async def opens(door: Door, command: Open) -> Opened:
    return Opened()


async def opens_in_parts(door: Door, command: Open) -> AsyncIterator[Opened]:
    yield Opened()


def opens_later(door: Door, command: Open) -> Awaitable[Opened]:
    return opens(door, command)


def opens_much_later(door: Door, command: Open) -> Coroutine[Any, Any, Opened] | None:
    return opens(door, command)


@wraps(opens)
def opens_decorated(*arguments: Any) -> Any:
    return opens(*arguments)


@types.coroutine
def opens_as_a_generator(door: Door, command: Open) -> Iterator[Opened]:
    yield Opened()


@pytest.mark.parametrize(
    "function",
    [
        opens,
        opens_as_a_generator,
        opens_decorated,
        partial(opens_decorated),
        cache(opens),
        opens_in_parts,
        opens_later,
        opens_much_later,
        partial(opens),
        partial(partial(opens)),
        Picky(),
        Picky().decide,
    ],
    ids=name_of,
)
def test_what_would_have_to_be_awaited_is_refused(function: Any) -> None:
    with pytest.raises(DeciderError, match="must not"):
        Decider("door", initial=Door).decides(function)


async def opened_later(door: Door, event: Opened) -> Door:
    return door


def opened_in_parts(door: Door, event: Opened) -> Iterator[Door]:
    yield door


@pytest.mark.parametrize(
    "function", [opened_later, opened_in_parts, partial(opened_later)], ids=name_of
)
def test_what_cannot_return_a_state_is_refused(function: Any) -> None:
    with pytest.raises(DeciderError, match=r"opened_(later|in_parts) must"):
        Decider("door", initial=Door).evolves(function)


def test_an_initial_state_is_not_awaited_either() -> None:
    async def beginning() -> Door:
        return Door()

    with pytest.raises(DeciderError, match="beginning must not be async"):
        Decider("door", initial=beginning)


class Later:
    """As a future is: awaitable, and iterable as well."""

    def __await__(self) -> Iterator[Any]:
        raise AssertionError("nobody awaits it")

    __iter__ = __await__


def test_an_initial_state_that_would_have_to_be_awaited_is_none() -> None:
    door = Decider("door", initial=lambda: Later())
    with pytest.raises(DeciderError, match="<lambda> returned Later for its call; it must return"):
        door.fold([])


def test_partials_and_callable_objects_are_functions_too() -> None:
    class Opens:
        def __call__(self, door: Door, command: Open) -> Opened:
            return Opened()

    def pushes(kind: type[Opened], door: Door, command: Push) -> Opened:
        return kind()

    door = Decider("door", initial=Door)
    door.decides(Opens())
    door.decides(partial(pushes, Opened))
    for command in (Open(), Push()):
        assert door.decide(Door(), command, CONTEXT) == (Opened(),)


def unannounced(door: Door, command: Open):  # type: ignore[no-untyped-def]
    return opens(door, command)


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (unannounced, "coroutine"),
        (lambda door, command: Later(), "Later"),
        (lambda door, command: 7, "int"),
    ],
    ids=["coroutine", "future", "int"],
)
def test_what_are_no_events_is_an_error_that_names_function_and_command(
    function: Any, returned: str
) -> None:
    function.__annotations__["command"] = Open
    door = Decider("door", initial=Door)
    door.decides(function)
    with pytest.raises(DeciderError, match=f"returned {returned} for Open; it must return events"):
        door.decide(Door(), Open(), CONTEXT)


def evolving(result: Any, initial: Any = Door, state: Any = Door) -> Decider[Any]:
    """A decider that evolves into this, whatever it is."""

    def opened(door, event):  # type: ignore[no-untyped-def]
        return result

    opened.__annotations__ = {"event": Opened, **({} if state is None else {"door": state})}
    opened.__annotations__["return"] = opened.__annotations__.get("door", Any)
    decider: Decider[Any] = Decider("door", initial=initial)
    decider.evolves(opened)
    return decider


@pytest.mark.parametrize(
    ("result", "initial", "state"),
    [
        (None, Door, Door),
        (None, Door, None),
        (None, Door, Any),
        (Later(), Door, None),
        (Later(), Door, Any),
        (True, Door, Door),
        (Opened(), Door, Door),
        ({}, Door, Door | Opened),
        (1.5, int, int),
    ],
)
def test_what_is_no_state_is_an_error_that_names_function_and_event(
    result: Any, initial: Any, state: Any
) -> None:
    with pytest.raises(DeciderError, match=r"opened returned \w+ for Opened; it must return the"):
        evolving(result, initial, state).evolve(initial(), Opened())


class Ajar(Door, frozen=True):
    pass


@pytest.mark.parametrize(
    ("result", "initial", "state"),
    [
        (Door(True), Door, Door),
        (Ajar(), Door, Door),
        (Opened(), Door, Door | Opened),
        (Opened(), Door, None),
        (None, lambda: None, Door | None),
        (Door(), lambda: None, Door | None),
        (None, Door, Door | None),
        (3, float, float),
        ({"open": True}, dict, dict[str, bool]),
        ("shut", lambda: "open", Literal["open", "shut"]),
        (frozenset("a"), frozenset, AbstractSet[str]),
    ],
)
def test_any_type_that_is_named_can_be_the_states(result: Any, initial: Any, state: Any) -> None:
    assert evolving(result, initial, state).evolve(initial(), Opened()) == result


def raising(error: Exception) -> Decider[Door]:
    door = Decider("door", initial=Door)

    @door.decides
    def close(door: Door, command: Close) -> Iterator[Closed]:
        raise error
        yield Closed()

    @door.evolves
    def closed(door: Door, event: Closed) -> Door:
        raise error

    return door


@pytest.mark.parametrize(
    "error",
    [Conflict("a", "b", 1, 2), DuplicateId("x"), UnknownType("y"), RequestTimeout("z")],
    ids=lambda error: type(error).__name__,
)
def test_the_librarys_errors_are_failures_if_a_decider_raises_them(error: Exception) -> None:
    with pytest.raises(HandlerFailed, match=f"close failed on Close: {type(error).__name__}"):
        raising(error).decide(Door(), Close(), CONTEXT)
    with pytest.raises(HandlerFailed, match=f"closed failed on Closed: {type(error).__name__}"):
        raising(error).evolve(Door(), Closed())

    def beginning() -> Door:
        raise error

    with pytest.raises(
        HandlerFailed, match=f"beginning failed on its call: {type(error).__name__}"
    ):
        Decider("door", initial=beginning).initial()


def test_to_evolve_is_not_to_reject() -> None:
    with pytest.raises(HandlerFailed, match="closed failed on Closed: Rejected"):
        raising(Rejected("no", "no")).evolve(Door(), Closed())


def test_other_errors_are_raised_as_they_are() -> None:
    with pytest.raises(LookupError):
        raising(LookupError()).decide(Door(), Close(), CONTEXT)


def test_snapshots_of_states_that_are_never_of_the_initial_type_are_refused() -> None:
    decider = Decider[Any]("door", initial=lambda: None, snapshot_every=1)

    @decider.evolves
    def opened(door: Door | None, event: Opened) -> Door:
        return Door()

    with pytest.raises(DeciderError, match=r"initial\(\) is a NoneType, and no function"):
        Domain("house", [decider])
