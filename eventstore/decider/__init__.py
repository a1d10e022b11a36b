"""Deciders: initial state, evolve and decide, all pure; and the domain that holds them."""

from eventstore.decider.decider import CommandContext, Decider, Decision, Domain

__all__ = ["CommandContext", "Decider", "Decision", "Domain"]
