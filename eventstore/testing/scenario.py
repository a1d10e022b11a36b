"""The scenario of a decider: a history, a command, and the assertions on what it leads to."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from eventstore.decider.decider import CommandContext, Decider
from eventstore.decider.domain import Domain
from eventstore.errors import Rejected
from eventstore.messages.envelope import new_id
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command, Event
from eventstore.testing.log import START, next_record, round_trip

S = TypeVar("S")


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
        return Scenario(self._decider, self._history + tuple(map(round_trip, events)))

    def given_stored(self, type_name: str, schema_version: int, payload: bytes) -> Scenario[S]:
        """Add an event as it was stored, in JSON, in this version of its schema: it is upcast.

        Raises `UnknownType`, `UnsupportedSchema` and `InvalidPayload`, as reading it would.
        """
        codec = Domain("test", [self._decider]).codec
        aggregate = self._decider.aggregate
        about = next_record((), aggregate, "a1", type_name, schema_version=schema_version)
        subject = codec.subjects.log(aggregate, "a1")
        recorded = codec.recorded(subject, about["headers"], payload, 1)
        return self.given(*(each.data for each in recorded))

    def when(
        self,
        command: Command,
        *,
        aggregate_id: AggregateId = "a1",
        time: datetime = START,
        actor: str | None = None,
        authenticated_as: str | None = None,
    ) -> ScenarioOutcome[S]:
        """Decide a command in the state that the history folds to.

        `actor` and `authenticated_as` are those of the command's context. Raises `InvalidId` for an
        illegal aggregate id.
        """
        state = self._decider.fold(self._history)
        command_id = new_id()
        context = CommandContext(
            command_id=command_id,
            correlation_id=command_id,
            aggregate_id=check_aggregate_id(aggregate_id),
            time=time,
            actor=actor,
            authenticated_as=authenticated_as,
        )
        try:
            events = tuple(map(round_trip, self._decider.decide(state, command, context)))
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


def _listed(events: tuple[Event, ...]) -> str:
    return ", ".join(map(str, events)) or "no events"
