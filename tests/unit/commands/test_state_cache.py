from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.state_cache import CachedState, StateCache
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import NOTHING


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
    assert (len(states), states.weight) == (0, 0)


def test_the_ones_not_used_for_longest_make_room() -> None:
    states = StateCache(limit=3)
    for number in ("1", "2", "3"):
        states.put(("a", number), cached())
    states.get(("a", "1"))
    states.put(("a", "4"), cached())
    assert states.get(("a", "2")) is None
    assert all(states.get(("a", number)) for number in ("1", "3", "4"))


def test_commands_have_weight() -> None:
    states = StateCache(limit=10)
    states.put(("a", "1"), cached(commands=4))
    states.put(("a", "2"), cached(commands=4))
    assert (len(states), states.weight) == (2, 10)
    states.put(("a", "3"), cached())
    assert (len(states), states.weight) == (2, 6)


def test_a_filter_of_commands_has_weight() -> None:
    states = StateCache(limit=10)
    states.put(("a", "1"), CachedState(None, NOTHING, CommandDeduplication(CommandFilter.empty())))
    assert states.weight == 1 + 1024 // 150


def test_a_large_state_has_weight() -> None:
    states = StateCache(limit=100)
    states.put(("a", "1"), cached(state={"text": "x" * 9_000}))
    assert 50 < states.weight < 100
    states.put(("a", "2"), cached(state={"text": "x" * 9_000}))
    assert len(states) == 1


@pytest.mark.parametrize("state", [object(), {1, (2, frozenset())}, "\ud800", 2**100], ids=type)
def test_a_state_that_is_no_json_is_cached_all_the_same(state: object) -> None:
    states = StateCache(limit=100)
    states.put(("a", "1"), cached(state=state))
    assert states.get(("a", "1")) is not None
    assert 0 < states.weight < 100


def test_one_that_is_too_heavy_by_itself_is_not_cached() -> None:
    states = StateCache(limit=3)
    states.put(("a", "1"), cached())
    states.put(("a", "2"), cached(commands=3))
    assert (len(states), states.weight) == (0, 0)


def test_a_limit_of_0_caches_nothing() -> None:
    states = StateCache(limit=0)
    states.put(("a", "1"), cached())
    assert states.get(("a", "1")) is None


def test_commands_added_after_a_state_was_cached_do_not_spoil_the_weight() -> None:
    states = StateCache(limit=10)
    mine = cached()
    states.put(("a", "1"), mine)
    mine.commands.learn("xyz")
    states.put(("a", "1"), mine)
    assert states.weight == 4
    mine.commands.learn("uvw")
    states.drop(("a", "1"))
    assert states.weight == 0


@given(
    st.integers(0, 12),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 5)), max_size=60),
)
def test_the_weight_is_the_sum_of_what_is_cached_and_never_more_than_the_limit(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    states = StateCache(limit)
    weights: dict[str, int] = {}
    for name, commands in steps:
        if commands < 0:
            states.drop(("a", name))
        else:
            states.put(("a", name), cached(commands))
            weights[name] = 1 + commands
        present = [each for each in "abcdef" if states.get(("a", each)) is not None]
        assert len(states) == len(present)
        assert states.weight == sum(weights[each] for each in present) <= limit
