"""The scenario of several aggregates: each command is decided by what has happened to its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command, Event
from eventstore.testing.scenario import Scenario, ScenarioOutcome

_Key = tuple[str, str]


def domain_scenario(*deciders: Decider[Any]) -> DomainScenario:
    """A scenario of several aggregates, of these deciders' kinds, to which nothing has happened.

    Raises `DeciderError` if they do not fit together.
    """
    return DomainScenario(Domain("test", deciders), {})


class DomainScenario:
    """Several aggregates and what has happened to each; every step returns a new scenario."""

    def __init__(self, domain: Domain, aggregates: Mapping[_Key, Scenario[Any]]) -> None:
        self._domain = domain
        self._aggregates = aggregates

    def given(self, aggregate_id: AggregateId, *events: Event) -> DomainScenario:
        """Add events to the history of one aggregate, or of those of several kinds with this id.

        Raises `InvalidId`, `UnknownType` for a kind without a decider, and `InvalidPayload` for an
        event that could not be stored.
        """
        after = self
        for event in events:
            key = (event.__aggregate__, check_aggregate_id(aggregate_id))
            after = after._with(key, after._of(key).given(event))
        return after

    def when(
        self, command: Command, aggregate_id: AggregateId, **context: Any
    ) -> DomainScenarioOutcome:
        """Decide a command on one aggregate; `context` and errors as in `Scenario.when`.

        Raises `UnknownType` for a kind without a decider.
        """
        key = (command.__aggregate__, check_aggregate_id(aggregate_id))
        before = self._of(key)
        outcome = before.when(command, aggregate_id=aggregate_id, **context)
        return DomainScenarioOutcome(outcome, self._with(key, before.given(*outcome.events)))

    def state(self, aggregate: str, aggregate_id: AggregateId) -> Any:
        """The state of one aggregate; raises `UnknownType` for a kind without a decider."""
        return self._of((aggregate, check_aggregate_id(aggregate_id))).state

    def _of(self, key: _Key) -> Scenario[Any]:
        return self._aggregates.get(key) or Scenario(self._domain.decider(key[0]), ())

    def _with(self, key: _Key, scenario: Scenario[Any]) -> DomainScenario:
        return DomainScenario(self._domain, {**self._aggregates, key: scenario})


class DomainScenarioOutcome:
    """The events or the rejection of a command; assertions return the scenario that follows.

    They raise `AssertionError`, as those of `ScenarioOutcome`, which is `outcome`.
    """

    def __init__(self, outcome: ScenarioOutcome[Any], after: DomainScenario) -> None:
        self.outcome = outcome
        self.after = after

    def then(self, *expected: Event) -> DomainScenario:
        """Assert that exactly these events were decided, in this order."""
        self.outcome.then(*expected)
        return self.after

    def then_nothing(self) -> DomainScenario:
        """Assert that the command was accepted and changes nothing."""
        self.outcome.then_nothing()
        return self.after

    def then_rejected(self, code: str) -> DomainScenario:
        """Assert that the command was rejected with this code."""
        self.outcome.then_rejected(code)
        return self.after
