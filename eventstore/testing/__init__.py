"""Given, when, then: test a decider by its history, without a server.

    scenario(flake).given(created).when(AddFlakeInput(...)).then(FlakeInputAdded(...))
    scenario(flake).when(AddFlakeInput(...)).then_rejected("not_found")
    scenario(flake).given(created).when(RemoveFlake(), actor="ann").then_rejected("not_yours")
    scenario(flake).given_stored("FlakeCreated", 1, b'{"path": "./mine"}').when(...).then(...)
    domain_scenario(flake, module).given("f1", created).when(RemoveFlake(), "f1").then(removed)

Every event is encoded and decoded, so that one that could not be stored fails here. Subscribers,
processes and projections have scenarios of their own: `eventstore.subscribers.testing`,
`eventstore.processes.testing` and `eventstore.projections.testing`. `ManualClock` is a
clock that the test moves.
"""

from eventstore.testing.clock import ManualClock
from eventstore.testing.domain_scenario import (
    DomainScenario,
    DomainScenarioOutcome,
    domain_scenario,
)
from eventstore.testing.log import START
from eventstore.testing.scenario import Scenario, ScenarioOutcome, scenario

__all__ = [
    "START",
    "DomainScenario",
    "DomainScenarioOutcome",
    "ManualClock",
    "Scenario",
    "ScenarioOutcome",
    "domain_scenario",
    "scenario",
]
