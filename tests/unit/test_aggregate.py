from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

from eventstore.aggregate import CommandContext, Decider, Domain
from eventstore.errors import DeciderError, InvalidSubject, Rejected, UnknownType
from eventstore.messages import Command, Event
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


def test_a_rejection_comes_out_of_deciding_even_from_a_generator() -> None:
    with pytest.raises(Rejected, match="closed already"):
        make_door().decide(Door(), Close(), CONTEXT)


def test_a_state_is_the_fold_of_its_events() -> None:
    door = make_door()

    assert door.fold([]) == Door()
    assert door.fold([Opened(), Knocked(by="a"), Closed()]) == Door(open=False, knocks=1)
    assert door.fold(iter([Knocked(by="a")]), Door(open=True, knocks=4)) == Door(True, 5)


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
        (of_a_type_not_seen, "of_a_type_not_seen: annotation not understood"),
        (of_another_aggregate, "Ring belongs to bell, not to door"),
        (of_a_command_that_is_taken, "Push already has a function; of_a_command_that_is_taken"),
    ],
)
def test_a_function_that_cannot_decide_is_refused(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(DeciderError) as error:
        make_door().decides(function)
    assert problem in str(error.value)


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


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"initial": Plain},
            "door: no snapshot can be made of a Plain: .* make the state a msgspec",
        ),
        ({"snapshot_every": 0}, "door: snapshot_every and state_version begin at 1"),
        ({"state_version": 0}, "door: snapshot_every and state_version begin at 1"),
    ],
    ids=["state", "every", "version"],
)
def test_snapshots_that_cannot_be_made_are_refused(options: dict[str, Any], problem: str) -> None:
    decider = Decider[Any]("door", **{"initial": int, "snapshot_every": 1, **options})
    with pytest.raises(DeciderError, match=problem):
        Domain("house", [decider])


def test_without_snapshots_a_state_may_be_anything() -> None:
    assert Domain("house", [Decider("door", initial=Plain)]).decider("door").snapshot_every is None


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
