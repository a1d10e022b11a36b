"""Failures of concurrent work: without their group, and told from a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.concurrency.failures import only_own_cancellation, ungrouped


def test_the_first_failure_is_found_inside_of_groups() -> None:
    inner = BaseExceptionGroup("inner", [LookupError(), ValueError()])
    with pytest.raises(LookupError), ungrouped():
        raise BaseExceptionGroup("outer", [inner, KeyError()])


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


async def cancelled() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


async def test_a_cancellation_of_what_was_awaited_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="has been cancelled"), only_own_cancellation():
        await cancelled()


async def test_a_tasks_own_cancellation_goes_through() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        with only_own_cancellation():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Unusual(BaseException):
    pass


async def test_an_exception_that_would_end_the_program_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Unusual: unusual"), only_own_cancellation():
        raise Unusual("unusual")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_one_that_is_meant_to_goes_through(error: type[BaseException]) -> None:
    with pytest.raises(error), only_own_cancellation():
        raise error
