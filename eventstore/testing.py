"""Given, when, then: test a decider by its history, without any server.

    scenario(flake).given(created).when(AddFlakeInput(...)).then(FlakeInputAdded(...))
    scenario(flake).when(AddFlakeInput(...)).then_rejected("not_found")

All events pass through their bytes and back, so that what could not be stored fails here.
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
"""The time at which scenarios decide, unless told otherwise."""


def scenario(decider: Decider[S]) -> Scenario[S]:
    """Begin a scenario for a decider, with no history."""
    return Scenario(decider, ())


class Scenario(Generic[S]):
    """A decider and the history given so far; every step makes a new one."""

    def __init__(self, decider: Decider[S], history: tuple[Event, ...]) -> None:
        self._decider = decider
        self._history = history

    def given(self, *events: Event) -> Scenario[S]:
        """Add events to the history."""
        return Scenario(self._decider, self._history + tuple(map(_through_bytes, events)))

    def when(
        self, command: Command, *, aggregate_id: str = "a1", time: datetime = START
    ) -> ScenarioOutcome[S]:
        """Decide a command on the state that the history folds to."""
        state = self._decider.fold(self._history)
        command_id = new_id()
        context = CommandContext(
            command_id=command_id,
            correlation_id=command_id,
            aggregate_id=aggregate_id,
            time=time,
        )
        try:
            events = self._decider.decide(state, command, context)
        except Rejected as rejection:
            return ScenarioOutcome(self._decider, state, command, (), rejection)
        return ScenarioOutcome(
            self._decider, state, command, tuple(map(_through_bytes, events)), None
        )

    @property
    def state(self) -> S:
        """The state that the history folds to."""
        return self._decider.fold(self._history)


class ScenarioOutcome(Generic[S]):
    """What a command led to, with the assertions on it; each raises `AssertionError`."""

    def __init__(
        self,
        decider: Decider[S],
        state: S,
        command: Command,
        events: tuple[Event, ...],
        rejection: Rejected | None,
    ) -> None:
        self.state = decider.fold(events, state)
        self.events = events
        self.rejection = rejection
        self._command = command

    def then(self, *expected: Event) -> None:
        """Assert that exactly these events were decided, in this order."""
        if self.rejection is not None or self.events != expected:
            raise self._failure(_listed(expected), self._found())

    def then_nothing(self) -> None:
        """Assert that the command was accepted and changes nothing."""
        self.then()

    def then_rejected(self, code: str) -> None:
        """Assert that the command was rejected with this code."""
        found = None if self.rejection is None else self.rejection.code
        if found != code:
            raise self._failure(f"rejection {code!r}", self._found())

    def then_state(self, expected: S) -> None:
        """Assert the state after the decided events."""
        if self.state != expected:
            raise self._failure(str(expected), str(self.state))

    def _failure(self, expected: str, found: str) -> AssertionError:
        return AssertionError(f"{self._command}\n  expected {expected}\n  but got  {found}")

    def _found(self) -> str:
        if self.rejection is not None:
            return f"rejection {self.rejection.code!r}: {self.rejection.message}"
        return _listed(self.events)


def _through_bytes(event: Event) -> Event:
    read = msgspec.json.decode(msgspec.json.encode(event), type=type(event))
    if lost := difference(event, read):
        raise InvalidPayload(f"payload of {type(event).__name__}: {lost}")
    return read


def _listed(events: tuple[Event, ...]) -> str:
    return ", ".join(map(str, events)) or "no events"
