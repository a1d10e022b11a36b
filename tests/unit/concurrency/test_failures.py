"""The first failure of a group, by itself."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.concurrency.failures import first_failure, ungrouped


def test_the_first_failure_is_found_inside_of_groups() -> None:
    first = LookupError()
    inner = BaseExceptionGroup("inner", [first, ValueError()])
    assert first_failure(BaseExceptionGroup("outer", [inner, KeyError()])) is first


async def test_it_is_raised_without_its_groups() -> None:
    async def fail() -> None:
        raise LookupError("inner")

    with pytest.raises(LookupError, match="inner") as raised, ungrouped():
        async with asyncio.TaskGroup(), asyncio.TaskGroup() as inner:
            inner.create_task(fail())
    assert isinstance(raised.value.__cause__, ExceptionGroup)


def test_what_came_alone_is_raised_as_it_is() -> None:
    with pytest.raises(LookupError) as raised, ungrouped():
        raise LookupError
    assert raised.value.__cause__ is None
