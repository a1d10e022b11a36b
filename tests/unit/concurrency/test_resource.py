"""Resources: opened by `async with`, and closed in the reverse order."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from eventstore.concurrency.resource import Resource


class RecordingResource(Resource):
    """Notes what is closed; entering may fail after two of three were opened."""

    def __init__(self, *, fails: bool = False) -> None:
        self.closed: list[str] = []
        self._fails = fails

    async def _enter(self, stack: AsyncExitStack) -> None:
        for name in ("first", "second"):
            stack.callback(self.closed.append, name)
        if self._fails:
            raise LookupError
        stack.callback(self.closed.append, "third")


async def test_leaving_closes_what_was_opened_last_first_and_entering_works_twice() -> None:
    resource = RecordingResource()
    for _ in range(2):
        async with resource as entered:
            assert entered is resource
            assert resource.closed == []
        assert resource.closed == ["third", "second", "first"]
        resource.closed.clear()


async def test_where_entering_fails_what_was_opened_is_closed() -> None:
    resource = RecordingResource(fails=True)
    with pytest.raises(LookupError):
        async with resource:
            raise AssertionError("it is never entered")
    assert resource.closed == ["second", "first"]


async def test_a_failure_of_the_block_is_raised_after_closing() -> None:
    resource = RecordingResource()
    with pytest.raises(LookupError):
        async with resource:
            raise LookupError
    assert resource.closed == ["third", "second", "first"]
