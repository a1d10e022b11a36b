"""Given, when, then: test a decider by its history, without a server.

    scenario(flake).given(created).when(AddFlakeInput(...)).then(FlakeInputAdded(...))
    scenario(flake).when(AddFlakeInput(...)).then_rejected("not_found")
    scenario(flake).given(created).when(RemoveFlake(), actor="ann").then_rejected("not_yours")

Every event is encoded and decoded, so that one that could not be stored fails here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from eventstore.decider.decider import CommandContext, Decider
from eventstore.errors import InvalidPayload, Rejected
from eventstore.messages.envelope import new_id
from eventstore.messages.fidelity import difference
from eventstore.messages.types import Command, Event

__all__ = ["Scenario", "ScenarioOutcome", "scenario"]

S = TypeVar("S")

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which scenarios decide by default."""


def scenario(decider: Decider[S]) -> Scenario[S]:
    """A scenario for a decider, with an empty history."""
    return Scenario(decider, ())


class Scenario(Generic[S]):
    """A decider and the history given so far; each step returns a new scenario."""

    def __init__(self, decider: Decider[S], history: tuple[Event, ...]) -> None:
        self._decider = decider
        self._history = history

    def given(self, *events: Event) -> Scenario[S]:
        """Add events to the history."""
        return Scenario(self._decider, self._history + tuple(map(_round_trip, events)))

    def when(
        self,
        command: Command,
        *,
        aggregate_id: str = "a1",
        time: datetime = START,
        actor: str | None = None,
        authenticated_as: str | None = None,
    ) -> ScenarioOutcome[S]:
        """Decide a command in the state that the history folds to.

        `actor` and `authenticated_as` are those of the command's context.
        """
        state = self._decider.fold(self._history)
        command_id = new_id()
        context = CommandContext(
            command_id=command_id,
            correlation_id=command_id,
            aggregate_id=aggregate_id,
            time=time,
            actor=actor,
            authenticated_as=authenticated_as,
        )
        try:
            events = tuple(map(_round_trip, self._decider.decide(state, command, context)))
        except Rejected as rejection:
            return ScenarioOutcome(state, command, (), rejection)
        return ScenarioOutcome(self._decider.fold(events, state), command, events)

    @property
    def state(self) -> S:
        """The state that the history folds to."""
        return self._decider.fold(self._history)


class ScenarioOutcome(Generic[S]):
    """The events or the rejection of a command; each assertion raises `AssertionError`."""

    def __init__(
        self,
        state: S,
        command: Command,
        events: tuple[Event, ...],
        rejection: Rejected | None = None,
    ) -> None:
        self.state = state
        self.events = events
        self.rejection = rejection
        self._command = command

    def then(self, *expected: Event) -> None:
        """Assert that exactly these events were decided, in this order."""
        if self.rejection is not None or self.events != expected:
            raise self._failure(_listed(expected), self._actual())

    def then_nothing(self) -> None:
        """Assert that the command was accepted and changes nothing."""
        self.then()

    def then_rejected(self, code: str) -> None:
        """Assert that the command was rejected with this code."""
        actual = None if self.rejection is None else self.rejection.code
        if actual != code:
            raise self._failure(f"rejection {code!r}", self._actual())

    def then_state(self, expected: S) -> None:
        """Assert the state after the decided events."""
        if self.state != expected:
            raise self._failure(str(expected), str(self.state))

    def _failure(self, expected: str, actual: str) -> AssertionError:
        return AssertionError(f"{self._command}\n  expected {expected}\n  but got  {actual}")

    def _actual(self) -> str:
        if self.rejection is not None:
            return f"rejection {self.rejection.code!r}: {self.rejection.message}"
        return _listed(self.events)


def _round_trip(event: Event) -> Event:
    decoded = msgspec.json.decode(msgspec.json.encode(event), type=type(event))
    if lost := difference(event, decoded):
        raise InvalidPayload(f"payload of {type(event).__name__}: {lost}")
    return decoded


def _listed(events: tuple[Event, ...]) -> str:
    return ", ".join(map(str, events)) or "no events"
