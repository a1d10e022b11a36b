from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from eventstore.concurrency.keyed import KeyedLocks, KeyedQueue, QueueTurn
from eventstore.concurrency.keyed_batches import KeyedBatches
from tests.unit.concurrency.clock import settle

Queues = type[KeyedQueue[Any]] | type[KeyedBatches[Any]]


@pytest.fixture(params=[KeyedQueue, KeyedBatches])
def make(request: pytest.FixtureRequest) -> Queues:
    """Both kinds of queues, which do the same if what they do needs a task for each item."""
    kind: Queues = request.param
    return kind


class Work:
    """Notes what begins, and lets each item end when its gate is opened."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.under_way = 0
        self.max_concurrency = 0
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, item: str) -> None:
        self.begun.append(item)
        self.under_way += 1
        self.max_concurrency = max(self.max_concurrency, self.under_way)
        try:
            await self.gates[item].wait()
        finally:
            self.under_way -= 1

    def open(self, *items: str) -> None:
        for item in items:
            self.gates[item].set()


async def test_items_of_one_key_are_worked_on_in_order_one_at_a_time(make: Queues) -> None:
    work = Work()
    items = [f"a{number}" for number in range(200)]
    work.open(*items)
    async with make(work, max_concurrency=10, max_pending=300) as queue:
        for item in items:
            await queue.put("a", item)
    assert work.begun == items
    assert work.max_concurrency == 1


async def test_a_key_that_waits_does_not_hold_up_another(make: Queues) -> None:
    work = Work()
    work.open("b1", "b2")
    async with make(work, max_concurrency=2, max_pending=10) as queue:
        for item in ("a1", "a2", "a3"):
            await queue.put("a", item)
        for item in ("b1", "b2"):
            await queue.put("b", item)
        await settle()
        assert work.begun == ["a1", "b1", "b2"]
        work.open("a1", "a2", "a3")
    assert work.begun[-2:] == ["a2", "a3"]


async def test_no_more_are_worked_on_at_once_than_allowed(make: Queues) -> None:
    work = Work()
    async with make(work, max_concurrency=3, max_pending=100) as queue:
        for number in range(50):
            await queue.put(number, str(number))
        await settle()
        assert work.under_way == 3
        work.open(*map(str, range(50)))
    assert len(work.begun) == 50
    assert work.max_concurrency == 3


async def test_putting_waits_while_there_is_no_room(make: Queues) -> None:
    work = Work()
    async with make(work, max_concurrency=1, max_pending=2) as queue:
        await queue.put("a", "a1")
        await queue.put("a", "a2")
        putting = asyncio.create_task(queue.put("b", "b1"))
        await settle()
        assert not putting.done()
        work.open("a1")
        await putting
        work.open("a2", "b1")
    assert sorted(work.begun) == ["a1", "a2", "b1"]


async def test_what_has_not_begun_can_be_taken_out_and_makes_room(make: Queues) -> None:
    work = Work()
    async with make(work, max_concurrency=1, max_pending=4) as queue:
        for key, item in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")):
            await queue.put(key, item)
        await settle()
        assert queue.clear() == ["a2", "a3", "b1"]
        assert queue.clear() == []
        for item in ("a4", "a5", "a6"):
            await asyncio.wait_for(queue.put("a", item), 1)
        work.open("a1", "a4", "a5", "a6")
    assert work.begun == ["a1", "a4", "a5", "a6"]


async def test_putting_goes_on_when_what_has_not_begun_is_taken_out(make: Queues) -> None:
    work = Work()
    async with make(work, max_concurrency=1, max_pending=2) as queue:
        await queue.put("a", "a1")
        await queue.put("a", "a2")
        several = [asyncio.create_task(queue.put(key, f"{key}1")) for key in ("b", "c")]
        await settle()
        assert not any(putting.done() for putting in several)
        assert queue.clear() == ["a2"]
        await settle()
        assert [putting.done() for putting in several] == [True, False]
        work.open("a1", "b1", "c1")
        await asyncio.gather(*several)
    assert work.begun == ["a1", "b1", "c1"]


async def test_leaving_waits_for_what_is_held(make: Queues) -> None:
    work = Work()
    queue = make(work, max_concurrency=1, max_pending=4)
    await queue.__aenter__()
    await queue.put("a", "a1")
    await queue.put("a", "a2")
    leaving = asyncio.create_task(queue.__aexit__(None, None, None))
    await settle()
    assert not leaving.done()
    work.open("a1", "a2")
    await leaving
    assert work.begun == ["a1", "a2"]


async def test_a_failure_of_the_block_cancels_what_is_under_way(make: Queues) -> None:
    work = Work()

    async def block() -> None:
        async with make(work, max_concurrency=1, max_pending=4) as queue:
            await queue.put("a", "a1")
            await queue.put("a", "a2")
            await settle()
            raise ValueError

    with pytest.raises(ExceptionGroup) as raised:
        await block()
    assert [type(error) for error in raised.value.exceptions] == [ValueError]
    assert work.begun == ["a1"]
    assert work.under_way == 0


@pytest.mark.parametrize(
    ("failure", "message"),
    [(ValueError("a1"), "a1"), (asyncio.CancelledError(), "has been cancelled")],
    ids=["error", "cancellation"],
)
async def test_a_failure_of_the_work_ends_the_block(
    make: Queues, failure: BaseException, message: str
) -> None:
    async def fail(_item: str) -> None:
        raise failure

    async def block() -> None:
        async with make(fail, max_concurrency=1, max_pending=4) as queue:
            await queue.put("a", "a1")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(block(), 5)
    (error,) = raised.value.exceptions
    assert message in str(error)


async def test_a_turn_is_had_when_what_is_before_it_has_ended_and_holds_up_what_is_behind(
    make: Queues,
) -> None:
    work, had = Work(), asyncio.Event()

    async def begin(item: str | QueueTurn) -> None:
        await (item.give() if isinstance(item, QueueTurn) else work(item))

    async def have(turn: QueueTurn) -> None:
        async with turn.awaited() as given:
            assert given
            had.set()
            await work("turn")

    async with make(begin, max_concurrency=4, max_pending=4) as queue:
        turn = QueueTurn()
        for item in ("a1", turn, "a2"):
            await queue.put("a", item)
        having = asyncio.create_task(have(turn))
        await settle()
        assert not had.is_set()
        work.open("a1")
        await settle()
        assert work.begun == ["a1", "turn"]
        work.open("turn", "a2")
    await having
    assert work.begun == ["a1", "turn", "a2"]


async def test_a_turn_that_nobody_waits_for_any_more_is_passed_over(make: Queues) -> None:
    async def have(turn: QueueTurn) -> bool:
        async with turn.awaited() as given:
            return given

    async with make(QueueTurn.give, max_concurrency=1, max_pending=4) as queue:
        turns = [QueueTurn() for _ in range(3)]
        abandoned, refused, had = [asyncio.create_task(have(turn)) for turn in turns]
        await settle()
        abandoned.cancel()
        turns[1].refuse()
        await settle()
        for turn in turns:
            await queue.put("a", turn)
        assert (await refused, await had) == (False, True)


async def test_locks_exclude_each_other_by_key_only() -> None:
    locks, order = KeyedLocks(), list[str]()
    gate = asyncio.Event()

    async def hold(key: str, name: str) -> None:
        if not locks.take(key):
            await locks.turn(key)
        order.append(name)
        await gate.wait()
        locks.release(key)

    async with asyncio.TaskGroup() as tasks:
        for key, name in (("a", "a1"), ("a", "a2"), ("b", "b1")):
            tasks.create_task(hold(key, name))
        await settle()
        assert order == ["a1", "b1"]
        gate.set()
    assert order == ["a1", "b1", "a2"]
