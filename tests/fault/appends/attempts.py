"""What writers write down, and which append a number stands for: the same in every process."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct

AGGREGATES = 3
"""So many aggregates are appended to at a time; after some appends, to the next ones."""
_APPENDS = 60


class Part(Struct):
    """The events of an append for one aggregate, by their ids, and a name or a version."""

    aggregate_id: str
    event_ids: list[str]
    expected: str | int = "any"


class Told(Struct):
    """What a writer was told of one aggregate."""

    version: int
    positions: list[int]
    duplicate: bool


class Attempt(Struct):
    """One attempt to append: what came of it is the code of an error, or `recorded`."""

    number: int
    parts: list[Part]
    asked: int
    answered: int = 0
    result: str = ""
    told: list[Told] = []

    @property
    def event_ids(self) -> list[str]:
        """The ids of all events, in the order in which they are sent."""
        return [event_id for part in self.parts for event_id in part.event_ids]


def planned(seed: str, number: int) -> list[Part]:
    """The parts of an append, whose events have the same ids wherever it is made."""
    chance = random.Random(f"{seed}/append/{number}")  # noqa: S311
    first = number // _APPENDS * AGGREGATES
    names = [f"a{first + each}" for each in range(AGGREGATES)]
    count = chance.choice([1, 1, 1, 2, 3])
    return [
        Part(name, [_id(chance) for _ in range(chance.choice([1, 1, 2, 5]))])
        for name in chance.sample(names, count)
    ]


def _id(chance: random.Random) -> str:
    return str(UUID(int=chance.getrandbits(128), version=4))


def line_of(attempt: Attempt) -> bytes:
    """An attempt as a line of a writer's file."""
    return msgspec.json.encode(attempt) + b"\n"


def attempts(path: Path) -> list[Attempt]:
    """The attempts in a writer's file."""
    return [msgspec.json.decode(line, type=Attempt) for line in path.read_bytes().splitlines()]
