from __future__ import annotations

import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.store.command_filter import CommandFilter

IDS = st.sets(st.uuids().map(str), max_size=300)


def made(count: int) -> CommandFilter:
    commands = CommandFilter.empty()
    for number in range(count):
        commands.add(f"known {number}")
    return commands


@given(IDS, IDS, st.integers(0, 700))
def test_an_id_that_was_added_is_in_it_for_ever(early: set[str], late: set[str], more: int) -> None:
    commands = made(more)
    for each in early:
        commands.add(each)
    written = msgspec.msgpack.encode(commands)
    read = msgspec.msgpack.decode(written, type=CommandFilter)
    for each in late:
        read.add(each)
    assert all(each in read for each in early | late)
    assert all(each in commands for each in early)


@pytest.mark.parametrize(
    ("count", "size"), [(0, 1), (512, 1), (513, 3), (1_536, 3), (1_537, 7), (70_000, 127)]
)
def test_it_grows_up_to_a_limit(count: int, size: int) -> None:
    assert made(count).size == size * 1024


@pytest.mark.parametrize(("count", "most"), [(500, 0.005), (20_000, 0.005), (65_000, 0.01)])
def test_few_of_those_that_were_not_added_seem_to_be_in_it(count: int, most: float) -> None:
    commands = made(count)
    assert all(f"known {number}" in commands for number in range(0, count, 7))
    seeming = sum(f"new {number}" in commands for number in range(10_000))
    assert seeming <= most * 10_000


def test_an_empty_filter_contains_nothing() -> None:
    assert not any(str(uuid.UUID(int=number)) in CommandFilter.empty() for number in range(1_000))


@pytest.mark.parametrize(
    "layers", [[], [0], [1024, 1024], [2048], [1024 << n for n in range(8)]], ids=str
)
def test_other_layers_than_it_would_make_are_refused(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="no command filter"):
        CommandFilter([bytearray(size) for size in layers])
    with pytest.raises(ValueError, match="no command filter"):
        CommandFilter([bytearray(1024)], -1)
