"""Keyed work in batches: what has come for different keys is one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventstore.concurrency.batching import Batchable
from eventstore.concurrency.keyed_batches import KeyedBatches
from tests.unit.concurrency.clock import settle


class Batches:
    """The batches so far, and the gate at which they wait."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()


class Step(Batchable[None]):
    """Waits until its batch is let go on."""

    def __init__(self, own: Batches, item: str) -> None:
        self.own = own
        self.item = item
        self.kind = own

    async def alone(self) -> None:
        raise AssertionError("nothing leaves its batch here")

    async def together(self, batch: Sequence[Step]) -> Sequence[Exception | None]:
        self.own.batches.append([each.item for each in batch])
        await self.own.gate.wait()
        return [None] * len(batch)


async def test_a_batch_has_one_item_of_each_key_and_those_of_a_key_are_in_order() -> None:
    own = Batches()
    own.gate.set()

    async def work(item: str) -> None:
        await Step(own, item)

    async with KeyedBatches(work, max_concurrency=10, max_pending=100) as queue:
        for item in ("a1", "a2", "b1", "a3", "c1", "b2"):
            await queue.put(item[0], item)
    assert own.batches == [["a1", "b1", "c1"], ["a2", "b2"], ["a3"]]


async def test_what_comes_while_two_batches_are_open_is_the_next_batch() -> None:
    own = Batches()

    async def work(item: str) -> None:
        await Step(own, item)

    async with KeyedBatches(work, max_concurrency=100, max_pending=100) as queue:
        for item in "abcdef":
            await queue.put(item, item)
            await settle()
        assert own.batches == [["a"], ["b"]]
        own.gate.set()
    assert own.batches == [["a"], ["b"], ["c", "d", "e", "f"]]


async def test_a_batch_is_no_larger_than_what_may_be_under_way() -> None:
    own = Batches()

    async def work(item: str) -> None:
        await Step(own, item)

    async with KeyedBatches(work, max_concurrency=3, max_pending=100) as queue:
        for item in "abcde":
            await queue.put(item, item)
        await settle()
        assert own.batches == [["a", "b", "c"]]
        assert queue.clear() == ["d", "e"]
        own.gate.set()
    assert own.batches == [["a", "b", "c"]]
