"""Waiting for what follows later: until it is there, and no longer than told."""

from __future__ import annotations

import pytest

from eventstore.pytest_plugin import eventually


async def test_the_first_true_value_is_returned() -> None:
    values = iter([0, None, "", "found"])
    assert await eventually(lambda: next(values)) == "found"


async def test_a_check_may_be_async_and_may_fail_at_first() -> None:
    left = [1, 2]

    async def check() -> str:
        assert not left or left.pop() is None
        return "done"

    assert await eventually(check) == "done"


async def test_other_exceptions_are_raised_unless_named() -> None:
    def check() -> str:
        raise KeyError("nothing")

    with pytest.raises(KeyError):
        await eventually(check)
    with pytest.raises(KeyError):
        await eventually(check, timeout=0.0, retried=(KeyError,))


async def test_after_its_time_it_says_what_the_last_value_was() -> None:
    with pytest.raises(TimeoutError, match="not within 0 s; the last value is 0"):
        await eventually(lambda: 0, timeout=0.0)

    def check() -> bool:
        raise AssertionError("not yet")

    with pytest.raises(AssertionError, match="not yet"):
        await eventually(check, timeout=0.0)
