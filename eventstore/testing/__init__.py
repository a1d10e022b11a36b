"""Given, when, then: test a decider by its history, without a server.

    scenario(flake).given(created).when(AddFlakeInput(...)).then(FlakeInputAdded(...))
    scenario(flake).when(AddFlakeInput(...)).then_rejected("not_found")
    scenario(flake).given(created).when(RemoveFlake(), actor="ann").then_rejected("not_yours")

Every event is encoded and decoded, so that one that could not be stored fails here. Subscribers,
processes and projections have scenarios of their own: `eventstore.subscribers.testing`,
`eventstore.processes.testing` and `eventstore.projections.testing`. `ManualClock` is a
clock that the test moves.
"""

from eventstore.testing.clock import ManualClock
from eventstore.testing.log import START
from eventstore.testing.scenario import Scenario, ScenarioOutcome, scenario

__all__ = ["START", "ManualClock", "Scenario", "ScenarioOutcome", "scenario"]
