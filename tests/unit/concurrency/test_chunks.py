"""Chunks: many items a few at a time."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.concurrency.chunks import chunked, map_chunked


@pytest.mark.parametrize(
    ("items", "chunks"),
    [([], []), ([1, 2], [[1, 2]]), ([1, 2, 3, 4], [[1, 2], [3, 4]]), ([1, 2, 3], [[1, 2], [3]])],
)
def test_the_last_chunk_may_be_shorter(items: list[int], chunks: list[list[int]]) -> None:
    assert list(chunked(items, 2)) == chunks


async def test_results_are_in_order_and_no_more_calls_run_than_allowed() -> None:
    running, most = 0, 0

    async def call(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return -item

    assert await map_chunked(call, range(7), 3) == [0, -1, -2, -3, -4, -5, -6]
    assert most == 3
