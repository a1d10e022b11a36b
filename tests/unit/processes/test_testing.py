"""Given, when, then for processes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventstore.errors import DeciderError, UnknownType
from eventstore.processes import Send
from eventstore.processes.testing import START, scenario
from tests.integration.trading import (
    Abandon,
    Broken,
    Confirm,
    Confirmed,
    Fulfilment,
    Note,
    Noted,
    Placed,
    Received,
    Reserve,
    Reserved,
    fulfilling,
)

PLACED = Placed(article="tea", quantity=2)
RESERVE = Reserve(order="o-1", quantity=2)


def test_commands_follow_from_events() -> None:
    (
        scenario(fulfilling())
        .when("o-1", PLACED)
        .then(Send(RESERVE, "tea"))
        .when("tea", Reserved(order="o-1", quantity=2))
        .then(Confirm())
        .when("o-1", Confirmed())
        .then_nothing()
    )


def test_a_rejection_is_given_as_an_event_is() -> None:
    placed = scenario(fulfilling()).given("o-1", PLACED)
    placed.when_rejected("o-1", RESERVE, "too_few", "none").then(Abandon(reason="none, not 2"))
    known = placed.given_rejected("o-1", RESERVE, "too_few", "none")
    assert known.state("o-1") == Fulfilment(article="tea", refused="too_few")


def test_timers_are_due_when_time_passes() -> None:
    set_twice = scenario(fulfilling()).given("o-1", PLACED, Noted(text="in 60"))
    assert set_twice.timers("o-1") == {"order-note": START + timedelta(minutes=1)}
    waited = set_twice.later(seconds=59).then_nothing()
    after = waited.later(seconds=1).then(Send(Note(text="due"), "o-1"))
    after.later(days=1).then_nothing()
    set_twice.later("59s").then_nothing().later("1s").then(Send(Note(text="due"), "o-1"))
    set_twice.later("1m").then(Send(Note(text="due"), "o-1"))
    with pytest.raises(DeciderError, match="'soon' is not a delay: write 90s, 15m"):
        set_twice.later("soon")


@pytest.mark.parametrize("last", [Noted(text="cancel"), Noted(text="end"), Confirmed()])
def test_a_timer_that_is_cancelled_is_never_due(last: Noted | Confirmed) -> None:
    set_once = scenario(fulfilling()).given("o-1", PLACED, Noted(text="in 60"))
    set_once.when("o-1", last).later(days=1).then_nothing()


def test_processes_of_several_keys_are_apart() -> None:
    both = scenario(fulfilling()).given("o-1", PLACED).given("o-2", PLACED, Noted(text="end"))
    assert both.runs("o-1")
    assert not both.runs("o-2")
    both.when("tea", Reserved(order="o-2", quantity=2)).then_nothing()
    both.when("tea", Reserved(order="o-1", quantity=2)).then(Confirm())


def test_it_starts_anew_with_the_initial_state() -> None:
    ended = scenario(fulfilling()).given("o-1", PLACED, Noted(text="one"), Confirmed())
    ended.when("o-1", PLACED).then_state("o-1", Fulfilment(article="tea"))
    ended.when("o-1", Noted(text="two")).then_ended("o-1")


def test_what_does_not_hold_is_said() -> None:
    outcome = scenario(fulfilling()).when("o-1", PLACED)
    with pytest.raises(AssertionError, match=r"expected Confirm\(\)\n  but got  Send"):
        outcome.then(Confirm())
    with pytest.raises(AssertionError, match="expected no commands"):
        outcome.then_nothing()
    with pytest.raises(AssertionError, match="'coffee'"):
        outcome.then(Send(RESERVE, "coffee"))
    with pytest.raises(AssertionError, match="expected the end of o-1"):
        outcome.then_ended("o-1")
    with pytest.raises(AssertionError, match="Fulfilment"):
        outcome.then_state("o-1", Fulfilment())


def test_a_function_that_fails_is_an_outcome() -> None:
    broken = scenario(fulfilling()).given("o-1", PLACED).when("o-1", Noted(text="break"))
    assert isinstance(broken.then_fails(Broken), Broken)
    with pytest.raises(AssertionError, match="the process raised"):
        broken.then_nothing()


def test_an_event_without_a_function_is_named() -> None:
    with pytest.raises(UnknownType, match="process fulfilment has no function for Received"):
        scenario(fulfilling()).when("tea", Received(quantity=1))
