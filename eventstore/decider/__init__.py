"""Deciders: initial state, evolve and decide, all pure; and the domain they belong to."""

from eventstore.decider.decider import CommandContext, Decider, Decision
from eventstore.decider.domain import Domain

__all__ = ["CommandContext", "Decider", "Decision", "Domain"]
