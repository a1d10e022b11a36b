"""Chunks: many items a few at a time, so that no request, statement or burst is too large."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def chunked(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in slices of `size`, the last of which may be shorter; none if there are none."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def map_chunked(
    call: Callable[[T], Awaitable[R]], items: Iterable[T], max_concurrency: int
) -> list[R]:
    """The results of a call for each item, in order, with at most so many at a time.

    Raises what the first call raises that fails; the others of its chunk then run on.
    """
    results: list[R] = []
    for some in chunked(list(items), max_concurrency):
        results += await asyncio.gather(*map(call, some))
    return results
