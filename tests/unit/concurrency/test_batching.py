"""Coroutines that are run together: batches of what they wait for, and how they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from eventstore.concurrency.batching import Batchable, own_task, run_batch
from eventstore.concurrency.keyed import KeyedLocks
from tests.unit.concurrency.clock import settle


class Double(Batchable[int]):
    """Doubles a number; notes what was done in one batch."""

    def __init__(self, done: list[list[int]], number: int, kind: str = "") -> None:
        self.done = done
        self.number = number
        self.kind = kind

    async def alone(self) -> int:
        self.done.append([self.number])
        return 2 * self.number

    async def together(self, batch: Sequence[Double]) -> Sequence[int | Exception]:
        self.done.append([each.number for each in batch])
        await asyncio.sleep(0)
        return [2 * each.number if each.number >= 0 else ValueError("below 0") for each in batch]


def _nothing() -> None:
    """Nobody counts those that have ended."""


async def run(*coroutines: Coroutine[Any, Any, None], done: Callable[[], None] = _nothing) -> None:
    """Run them as one batch, and those that leave it."""
    async with asyncio.TaskGroup() as tasks:
        await run_batch([(each, done) for each in coroutines], tasks)


async def test_what_several_wait_for_is_done_in_one_batch_each_time() -> None:
    done: list[list[int]] = []
    results: list[int] = []

    async def member(number: int) -> None:
        results.append(await Double(done, await Double(done, number)))

    await run(*(member(number) for number in (1, 2, 3)))
    assert done == [[1, 2, 3], [2, 4, 6]]
    assert results == [4, 8, 12]


async def test_different_kinds_are_different_batches() -> None:
    done: list[list[int]] = []

    async def member(number: int) -> None:
        await Double(done, number, "odd" if number % 2 else "even")

    await run(*(member(number) for number in range(5)))
    assert done == [[0, 2, 4], [1, 3]]


async def test_in_a_task_of_its_own_it_is_done_alone() -> None:
    done: list[list[int]] = []
    assert await Double(done, 4) == 8
    assert done == [[4]]


async def test_an_error_is_raised_in_the_member_that_waits_for_it() -> None:
    seen: list[int | str] = []

    async def member(number: int) -> None:
        try:
            seen.append(await Double([], number))
        except ValueError as error:
            seen.append(str(error))

    await run(member(1), member(-1), member(2))
    assert seen == [2, "below 0", 4]


async def test_an_error_of_the_batch_is_raised_in_all_of_its_members() -> None:
    class Broken(Double):
        async def together(self, batch: Sequence[Double]) -> Sequence[int | Exception]:
            raise ConnectionError("broken")

    seen: list[str] = []

    async def member(number: int) -> None:
        with pytest.raises(ConnectionError) as error:
            await Broken([], number)
        seen.append(f"{number} {error.value}")

    await run(member(1), member(2))
    assert seen == ["1 broken", "2 broken"]


@pytest.mark.parametrize("way", ["by request", "by a future", "by a pause"])
async def test_one_that_leaves_holds_up_nobody_and_goes_on_in_a_task(way: str) -> None:
    done: list[list[int]] = []
    gate, over = asyncio.Event(), list[str]()

    async def slow() -> None:
        own = asyncio.current_task()
        if way == "by request":
            await own_task()
            assert asyncio.current_task() is not own
            async with asyncio.timeout(5):
                await gate.wait()
        elif way == "by a future":
            await gate.wait()
        else:
            while not gate.is_set():  # noqa: ASYNC110  # which yields no future
                await asyncio.sleep(0)
        assert asyncio.current_task() is not own
        await Double(done, 7)
        over.append("slow")

    async def quick() -> None:
        await Double(done, await Double(done, 1))
        over.append("quick")
        gate.set()

    await asyncio.wait_for(run(slow(), quick(), done=lambda: over.append("done")), 5)
    assert over == ["quick", "done", "slow", "done"]
    assert done == [[1], [2], [7]]


async def test_tasks_that_a_member_starts_are_not_of_the_batch() -> None:
    done: list[list[int]] = []
    tasks: list[asyncio.Task[int]] = []

    async def started() -> int:
        return await Double(done, 5)

    async def member() -> None:
        tasks.append(asyncio.create_task(started()))
        await Double(done, 1)

    await run(member(), member())
    assert [await task for task in tasks] == [10, 10]
    assert sorted(done) == [[1, 1], [5], [5]]


async def test_each_member_has_a_context_of_its_own() -> None:
    name: ContextVar[int] = ContextVar("name")
    seen: list[int] = []

    async def member(number: int) -> None:
        token = name.set(number)
        await Double([], number)
        if number == 2:
            await own_task()
            await asyncio.sleep(0)
        seen.append(name.get())
        name.reset(token)

    await run(*(member(number) for number in (1, 2, 3)))
    assert sorted(seen) == [1, 2, 3]


async def test_a_failure_of_one_cancels_the_others_which_clean_up() -> None:
    ended: list[str] = []

    async def member(number: int) -> None:
        try:
            await Double([], number)
        except asyncio.CancelledError:
            ended.append(f"{number} cancelled")
            raise

    with pytest.raises(ExceptionGroup) as raised:
        await run(member(-1), member(1), member(2), done=lambda: ended.append("done"))
    assert str(raised.value.exceptions[0]) == "below 0"
    assert ended == ["done", "1 cancelled", "done", "2 cancelled", "done"]


async def test_a_cancelled_batch_cancels_its_members_and_those_that_left() -> None:
    ended: list[str] = []

    async def member(name: str, *, leaves: bool) -> None:
        try:
            if leaves:
                await own_task()
            await Forever([], 1)
        except asyncio.CancelledError:
            ended.append(name)
            raise

    class Forever(Double):
        async def alone(self) -> int:
            await asyncio.Event().wait()
            return 0

        async def together(self, batch: Sequence[Double]) -> Sequence[int | Exception]:
            await asyncio.Event().wait()
            return []

    running = asyncio.create_task(run(member("in", leaves=False), member("out", leaves=True)))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ended) == ["in", "out"]


async def test_a_lock_that_another_holds_makes_its_member_leave() -> None:
    locks, order = KeyedLocks(), list[str]()

    async def member(name: str, key: str) -> None:
        if not locks.take(key):
            await locks.turn(key)
        order.append(f"{name} begins")
        await Double([], 1)
        order.append(f"{name} ends")
        locks.release(key)

    await run(member("a1", "a"), member("a2", "a"), member("b1", "b"))
    assert order == ["a1 begins", "b1 begins", "a1 ends", "b1 ends", "a2 begins", "a2 ends"]
