from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.commands.deduplication import CommandDeduplication

IDS = st.lists(st.integers(0, 2_000).map(str), max_size=60)


@given(IDS, IDS, st.booleans())
def test_none_is_ever_forgotten_and_without_a_snapshot_none_is_made_up(
    before: list[str], since: list[str], filtering: bool
) -> None:
    known = CommandDeduplication(filtering=filtering)
    for each in before:
        known.add(each)
    assert {str(n) for n in range(2_001) if known.may_hold(str(n))} == set(before)
    after = CommandDeduplication(known.filter())
    for each in since:
        after.add(each)
    assert all(after.may_hold(each) for each in (*before, *since))
    again = CommandDeduplication(after.filter())
    assert all(again.may_hold(each) for each in (*before, *since))


def test_what_only_seems_to_be_known_is_not_once_the_log_was_read() -> None:
    early = CommandDeduplication()
    for number in range(200_000):  # far more than a filter has room for
        early.filter().add(str(number))
    known = CommandDeduplication(early.filter())
    seeming = [f"new {n}" for n in range(50) if known.may_hold(f"new {n}")]
    assert seeming
    known.learn(["1", "2"])
    assert not any(map(known.may_hold, seeming))
    assert known.may_hold("1")


@pytest.mark.parametrize(("filtering", "size"), [(False, 0), (True, 3 * 1024)])
def test_a_filter_is_made_early_if_there_are_many_and_it_will_be_asked_for(
    filtering: bool, size: int
) -> None:
    known, plain = CommandDeduplication(filtering=filtering), CommandDeduplication()
    for number in range(511):
        known.add(str(number))
        known.add(str(number))
        plain.add(str(number))
    assert (len(known), known.size) == (511, plain.size)
    for number in range(600):
        known.add(str(number))
        plain.add(str(number))
    assert known.size - plain.size == size
    assert all(str(number) in known.filter() for number in range(600))
