from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.audit.diff import Change, changes, plain

texts = st.sampled_from(["a", "b", "c"])
states = st.recursive(
    st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, ()),
        ({"a": 1}, {"a": 2}, (Change(kind="changed", path=("a",), before=1, after=2),)),
        ({}, {"a": None}, (Change(kind="added", path=("a",), after=None),)),
        ({"a": []}, {}, (Change(kind="removed", path=("a",), before=[]),)),
        (
            {"a": {"b": 1, "c": [1]}},
            {"a": {"b": 1, "c": [1, 2]}},
            (Change(kind="changed", path=("a", "c"), before=[1], after=[1, 2]),),
        ),
        (1, {"a": 1}, (Change(kind="changed", path=(), before=1, after={"a": 1}),)),
    ],
    ids=["same", "changed", "added", "removed", "inner", "whole"],
)
def test_differences_are_named(before: object, after: object, expected: object) -> None:
    assert changes(before, after) == expected


@given(states, states)
def test_the_changes_lead_from_one_state_to_the_other(before: Any, after: Any) -> None:
    state = msgspec.json.decode(msgspec.json.encode(before))
    for change in changes(before, after):
        if not change.path:
            state = change.after
            continue
        place = state
        for name in change.path[:-1]:
            place = place[name]
        if change.kind == "removed":
            del place[change.path[-1]]
        else:
            place[change.path[-1]] = change.after
    assert state == after


def test_any_state_can_be_shown() -> None:
    class Odd(msgspec.Struct):
        names: frozenset[str]
        other: object

    assert plain(Odd(frozenset({"b", "a"}), 1 + 2j)) == {"names": ["a", "b"], "other": "(1+2j)"}
