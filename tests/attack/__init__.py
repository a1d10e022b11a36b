"""Attacks on a running service with the shipped configuration, tried as each of its users.

`python -m tests.attack` runs them all and prints what each tried and what it got.
"""
