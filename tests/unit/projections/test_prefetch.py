"""Prefetch: a page is read while the one before it is applied, and none at the end of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from eventstore.errors import CorruptLog
from eventstore.projections.worker.prefetch import prefetched
from eventstore.store.reader import Page


class Reader:
    """Pages of a log; `reached` is set when one is asked for that is not there yet."""

    def __init__(self, *pending: int, fails: bool = False) -> None:
        self.read: list[int] = []
        self.is_closed = False
        self.reached = asyncio.Event()
        self._pending = pending
        self._fails = fails

    async def pages(self) -> AsyncGenerator[Page, None]:
        try:
            for position, pending in enumerate(self._pending, 1):
                self.read.append(position)
                yield Page([], position, pending)
            if self._fails:
                raise CorruptLog("another log")
            self.reached.set()
            await asyncio.Event().wait()
        finally:
            self.is_closed = True


async def test_a_page_is_read_while_the_one_before_it_is_handled() -> None:
    reader = Reader(2, 1, 0)
    seen: list[int] = []
    async with aclosing(reader.pages()) as pages, aclosing(prefetched(pages)) as reading:
        async for page in reading:
            seen.append(page.position)
            await asyncio.sleep(0)  # in which a page that is there is read
            assert reader.read == [1, 2, 3][: page.position + 1]
            if not page.pending:
                break
        await asyncio.sleep(0)
        assert not reader.reached.is_set()
    assert seen == [1, 2, 3]
    assert reader.is_closed


async def test_a_failure_comes_after_the_last_page() -> None:
    reader = Reader(2, 1, fails=True)
    async with aclosing(prefetched(reader.pages())) as reading:
        assert (await anext(reading)).position == 1
        assert (await anext(reading)).position == 2
        await asyncio.sleep(0)  # in which reading fails
        with pytest.raises(CorruptLog):
            await anext(reading)


async def test_a_page_that_nobody_waits_for_is_not_read() -> None:
    reader = Reader(1)
    async with aclosing(reader.pages()) as pages, aclosing(prefetched(pages)) as reading:
        assert (await anext(reading)).position == 1
        await reader.reached.wait()
    assert reader.is_closed
    assert len(asyncio.all_tasks()) == 1


async def test_whoever_is_cancelled_cancels_the_reading() -> None:
    reader = Reader(1)

    async def read() -> None:
        async with aclosing(reader.pages()) as pages, aclosing(prefetched(pages)) as reading:
            async for _page in reading:
                pass

    task = asyncio.create_task(read())
    await reader.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader.is_closed
    assert len(asyncio.all_tasks()) == 1
