from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Struct

from eventstore.decider.decider import CommandContext, Decider
from eventstore.errors import InvalidId, InvalidPayload, Rejected, UnknownType, UnsupportedSchema
from eventstore.messages.types import Command, Event
from eventstore.testing import START, domain_scenario, scenario


class Count(Command, subject="counter.count"):
    by: int


class Counted(Event, subject="counter.counted"):
    by: int
    at: datetime


class Reset(Command, subject="counter.reset"):
    pass


class Counter(Struct, frozen=True):
    total: int = 0


counter = Decider("counter", initial=Counter)


@counter.decides
def count(counter: Counter, command: Count, context: CommandContext) -> list[Counted]:
    if command.by < 0:
        raise Rejected("negative", f"{command.by} is less than 0")
    return [Counted(by=1, at=context.time)] * command.by


@counter.evolves
def counted(counter: Counter, event: Counted) -> Counter:
    return Counter(counter.total + event.by)


ONE = Counted(by=1, at=START)


def test_a_met_expectation_passes_silently() -> None:
    scenario(counter).when(Count(by=2)).then(ONE, ONE)
    scenario(counter).when(Count(by=0)).then_nothing()
    scenario(counter).when(Count(by=-1)).then_rejected("negative")
    scenario(counter).given(ONE).when(Count(by=1)).then_state(Counter(2))


def test_steps_do_not_change_the_scenario_they_extend() -> None:
    start = scenario(counter)
    given = start.given(ONE).given(ONE)

    assert (start.state, given.state) == (Counter(0), Counter(2))
    given.when(Count(by=1))
    assert given.state == Counter(2)


def test_time_and_id_come_from_the_scenario() -> None:
    time = datetime(2027, 2, 3, tzinfo=UTC)

    scenario(counter).when(Count(by=1), time=time, aggregate_id="c7").then(Counted(by=1, at=time))


def test_other_events_than_expected_fail() -> None:
    with pytest.raises(AssertionError) as failure:
        scenario(counter).when(Count(by=1)).then(ONE, ONE)
    assert str(failure.value) == (f"Count(by=1)\n  expected {ONE}, {ONE}\n  but got  {ONE}")


def test_a_rejection_instead_of_events_fails() -> None:
    outcome = scenario(counter).when(Count(by=-1))

    with pytest.raises(AssertionError) as failure:
        outcome.then_nothing()
    assert str(failure.value) == (
        "Count(by=-1)\n  expected no events\n  but got  rejection 'negative': -1 is less than 0"
    )


def test_events_instead_of_a_rejection_fail() -> None:
    with pytest.raises(AssertionError, match=r"expected rejection 'negative'\n  but got  no even"):
        scenario(counter).when(Count(by=0)).then_rejected("negative")


def test_another_rejection_than_expected_fails() -> None:
    with pytest.raises(AssertionError, match=r"expected rejection 'full'\n  but got  rejection 'n"):
        scenario(counter).when(Count(by=-1)).then_rejected("full")


def test_another_state_than_expected_fails() -> None:
    with pytest.raises(AssertionError, match=r"expected .*total=3\)\n  but got  .*total=1\)"):
        scenario(counter).when(Count(by=1)).then_state(Counter(3))


def test_a_command_unknown_to_the_decider_is_an_error_not_a_rejection() -> None:
    with pytest.raises(UnknownType, match="counter does not decide Reset"):
        scenario(counter).when(Reset())


def test_events_are_encoded_and_decoded() -> None:
    with pytest.raises(ValueError, match="by"):
        scenario(counter).given(Counted(by="one", at=START))  # type: ignore[arg-type]


class Claim(Command, subject="counter.claim"):
    pass


@counter.decides
def claim(counter: Counter, command: Claim, context: CommandContext) -> None:
    raise Rejected(str(context.actor), str(context.authenticated_as))


def test_a_command_has_an_actor_if_one_is_given() -> None:
    scenario(counter).when(Claim(), actor="ann").then_rejected("ann")
    scenario(counter).when(Claim()).then_rejected("None")
    decided = scenario(counter).when(Claim(), authenticated_as="SHOP/web")
    assert decided.rejection is not None
    assert decided.rejection.message == "SHOP/web"


def test_an_aggregate_has_a_legal_id() -> None:
    scenario(counter).when(Count(by=0), aggregate_id=uuid.uuid4()).then_nothing()
    with pytest.raises(InvalidId, match=r"'a\.1' is not allowed: .* or a UUID"):
        scenario(counter).when(Count(by=0), aggregate_id="a.1")


class Paint(Command, subject="wall.paint"):
    colour: str


class Painted(Event, subject="wall.painted", schema_version=2):
    colour: str


wall = Decider("wall", initial=str)


@wall.decides
def paint(wall: str, command: Paint) -> Painted | None:
    return None if command.colour == wall else Painted(colour=command.colour)


@wall.evolves
def painted(_wall: str, event: Painted) -> str:
    return event.colour


@wall.upcasts("Painted", 1)
def with_colour(data: dict[str, Any]) -> dict[str, Any]:
    return {"colour": data["color"]}


def test_events_of_an_earlier_schema_are_upcast() -> None:
    stored = scenario(wall).given_stored("Painted", 1, b'{"color": "red"}')
    stored.when(Paint(colour="red")).then_nothing()
    assert stored.given_stored("Painted", 2, b'{"colour": "blue"}').state == "blue"


def test_stored_events_that_could_not_be_read_fail() -> None:
    with pytest.raises(InvalidPayload):
        scenario(wall).given_stored("Painted", 2, b'{"color": "red"}')
    with pytest.raises(UnsupportedSchema):
        scenario(wall).given_stored("Painted", 3, b'{"colour": "red"}')
    with pytest.raises(UnknownType):
        scenario(wall).given_stored("Counted", 1, b"{}")


def test_several_aggregates_have_a_history_each() -> None:
    end = (
        domain_scenario(counter, wall)
        .given("1", ONE, Painted(colour="red"))
        .when(Count(by=1), "1")
        .then(ONE)
        .when(Count(by=1), "2", time=START)
        .then(ONE)
        .when(Paint(colour="red"), "1")
        .then_nothing()
        .when(Count(by=-1), "1")
        .then_rejected("negative")
    )
    assert (end.state("counter", "1"), end.state("counter", "2")) == (Counter(2), Counter(1))
    assert (end.state("wall", "1"), end.state("wall", "2")) == ("red", "")


def test_a_command_of_a_kind_without_a_decider_is_an_error() -> None:
    with pytest.raises(UnknownType, match="unknown aggregate 'wall'"):
        domain_scenario(counter).when(Paint(colour="red"), "1")
