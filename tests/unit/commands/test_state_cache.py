from __future__ import annotations

import gc
import secrets
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.state_cache import CachedState, StateCache
from eventstore.messages.envelope import new_id
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import NOTHING, Head


def cached(commands: int = 0, state: Any = None) -> CachedState:
    known = CommandDeduplication()
    known.learn(map(str, range(commands)))
    return CachedState(state, NOTHING, known)


def test_what_was_put_is_there_until_it_is_dropped() -> None:
    states = StateCache()
    mine = cached()
    assert states.get(("a", "1")) is None
    states.put(("a", "1"), mine)
    assert states.get(("a", "1")) is mine
    assert states.get(("a", "2")) is None
    assert states.get(("b", "1")) is None
    states.drop(("a", "1"))
    states.drop(("a", "1"))
    assert states.get(("a", "1")) is None
    assert (len(states), states.size) == (0, 0)


def test_the_ones_not_used_for_longest_make_room() -> None:
    states = StateCache(max_bytes=3 * cached().size)
    for number in ("1", "2", "3"):
        states.put(("a", number), cached())
    states.get(("a", "1"))
    states.put(("a", "4"), cached())
    assert states.get(("a", "2")) is None
    assert all(states.get(("a", number)) for number in ("1", "3", "4"))


def test_commands_a_filter_and_the_state_count() -> None:
    alone = cached().size
    assert cached(commands=100).size >= alone + 100 * 85
    assert CachedState(None, NOTHING, CommandDeduplication(CommandFilter.empty())).size > alone
    assert cached(state={"text": "x" * 9_000}).size >= alone + 9_000


class Deep(msgspec.Struct):
    """A state of objects, which are many times as large as their JSON."""

    numbers: list[int]
    names: dict[str, tuple[float, str]]


def deep() -> Deep:
    names = {f"name {number}": (number / 7, f"text {number}") for number in range(30)}
    return Deep(list(range(1_000, 1_100)), names)


@pytest.mark.parametrize("commands", [1, 5, 300])
@pytest.mark.parametrize("state", [lambda: None, deep], ids=["small", "deep"])
def test_the_size_is_that_of_the_memory(state: Callable[[], Any], commands: int) -> None:
    """Within three tenths, of what the allocator says for a cache with many of them."""
    states = StateCache()
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(200):
            known = CommandDeduplication()
            for _ in range(commands):
                known.add(new_id())
            head = Head(number + 1_000, number + 1_000, secrets.token_hex(32), new_id())
            states.put(("account", new_id()), CachedState(state(), head, known))
        allocated, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert allocated / 1.3 < states.size < allocated * 1.3


def test_a_state_that_has_grown_is_measured_again() -> None:
    mine = cached(state=[1_000] * 1_000)
    before = mine.size
    mine.state = [1_000.5] * 1_000
    assert mine.size >= before
    mine.state = []
    assert mine.size < before / 2


@pytest.mark.parametrize("state", [object(), {1, (2, frozenset())}, "\ud800", 2**100], ids=type)
def test_a_state_that_is_no_json_is_cached_all_the_same(state: object) -> None:
    states = StateCache()
    states.put(("a", "1"), cached(state=state))
    assert states.get(("a", "1")) is not None
    assert 0 < states.size < 2_000


def test_one_that_is_too_heavy_by_itself_is_not_cached() -> None:
    states = StateCache(max_bytes=cached().size)
    states.put(("a", "1"), cached())
    states.put(("a", "2"), cached(commands=3))
    assert (len(states), states.size) == (0, 0)


def test_a_limit_of_0_caches_nothing() -> None:
    states = StateCache(max_bytes=0)
    states.put(("a", "1"), cached())
    assert states.get(("a", "1")) is None


def test_commands_added_after_a_state_was_cached_do_not_spoil_the_size() -> None:
    states = StateCache()
    mine = cached()
    states.put(("a", "1"), mine)
    mine.commands.learn("xyz")
    states.put(("a", "1"), mine)
    assert states.size == mine.size
    mine.commands.learn("uvw")
    states.drop(("a", "1"))
    assert states.size == 0


@given(
    st.integers(0, 12),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 5)), max_size=60),
)
def test_the_size_is_the_sum_of_what_is_cached_and_never_more_than_the_limit(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    max_bytes = limit * 1_000
    states = StateCache(max_bytes)
    sizes: dict[str, int] = {}
    for name, commands in steps:
        if commands < 0:
            states.drop(("a", name))
        else:
            states.put(("a", name), cached(commands))
            sizes[name] = cached(commands).size
        present = [each for each in "abcdef" if states.get(("a", each)) is not None]
        assert len(states) == len(present)
        assert states.size == sum(sizes[each] for each in present) <= max_bytes
