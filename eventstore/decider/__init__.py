"""Deciders: initial state, evolve and decide, all pure; and the domain that holds them."""
