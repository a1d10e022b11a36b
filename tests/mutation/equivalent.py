"""Mutations that nobody can notice, kept with the reason: by the text of the line they are in."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tests.mutation.mutants import Mutant

__all__ = ["KEPT", "Equivalent", "find", "load", "stale"]

KEPT = Path(__file__).with_name("equivalent.toml")

Effect = Literal["none", "cost"]


class Equivalent(NamedTuple):
    """A mutation that changes nothing ("none"), or only what something takes ("cost").

    `inside` is the function it is in, `line` the source's line without its margin, `change` what
    the tool calls the mutation.
    """

    inside: str
    line: str
    change: str
    effect: Effect
    reason: str


def load(path: Path = KEPT) -> list[Equivalent]:
    """Read the list; raises `ValueError` for an entry that does not say all."""
    entries = tomllib.loads(path.read_text()).get("mutant", [])
    try:
        found = [Equivalent(**entry) for entry in entries]
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    for each in found:
        if each.effect not in ("none", "cost") or not each.reason:
            raise ValueError(f"{path}: {each.line!r} says no effect, or gives no reason")
    return found


def find(mutant: Mutant, kept: Sequence[Equivalent]) -> Equivalent | None:
    """The entry for a mutation, if there is one."""
    for each in kept:
        if each[:3] == (mutant.inside, mutant.text, mutant.change):
            return each
    return None


def stale(there: Sequence[Mutant], kept: Sequence[Equivalent]) -> list[Equivalent]:
    """The entries that are of no mutation of those there are: their lines have changed."""
    found = {(each.inside, each.text, each.change) for each in there}
    return [each for each in kept if each[:3] not in found]
