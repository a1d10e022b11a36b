"""The thread with an event loop: what it opens, runs and cancels, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import pytest

from eventstore.errors import BlockingCallRefused, RequestTimeout
from eventstore.sync.iterator import BlockingIterator
from eventstore.sync.loop_thread import LoopThread

BOUND = 30.0


class Opened:
    """A resource that notes what happens to it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.threads: set[int] = set()
        self.failing = asyncio.Event()
        self.error: Exception | None = None

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[Opened]:
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        try:
            async with asyncio.TaskGroup() as group:
                failing = group.create_task(self._fail())
                yield self
                failing.cancel()
        finally:
            self.threads.add(threading.get_ident())
            self.notes.append("closed")

    async def _fail(self) -> None:
        await self.failing.wait()
        raise ValueError("it broke")

    async def wait(self) -> None:
        try:
            self.notes.append("waits")
            await asyncio.Event().wait()
        finally:
            self.notes.append("cancelled")


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture
def thread(opened: Opened) -> LoopThread[Opened]:
    return LoopThread(opened.opening(), "thing")


def test_it_opens_runs_and_closes_in_one_other_thread(
    thread: LoopThread[Opened], opened: Opened
) -> None:
    assert thread.open() is opened

    async def ident() -> int:
        return threading.get_ident()

    assert {thread.call(ident, BOUND)} == opened.threads != {threading.get_ident()}
    thread.close()
    thread.close()
    assert opened.notes == ["closed"]
    assert len(opened.threads) == 1


def test_closing_it_cancels_calls_before_the_resource_is_closed(
    thread: LoopThread[Opened], opened: Opened
) -> None:
    thread.open()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(thread.call, opened.wait, BOUND)
        while not opened.notes:
            thread.call(lambda: asyncio.sleep(0), BOUND)
        thread.close()
        with pytest.raises(BlockingCallRefused, match="the thing is not open"):
            call.result(BOUND)
    assert opened.notes == ["waits", "cancelled", "closed"]


def test_what_opening_raises_is_raised(thread: LoopThread[Opened], opened: Opened) -> None:
    opened.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        thread.open()
    with pytest.raises(BlockingCallRefused):
        thread.call(opened.wait, BOUND)


def test_a_resource_that_fails_refuses_calls_and_raises_at_the_end(
    thread: LoopThread[Opened], opened: Opened
) -> None:
    thread.open()
    thread.soon(opened.failing.set)
    with pytest.raises(BlockingCallRefused):
        thread.call(opened.wait, BOUND)
    with pytest.raises(ExceptionGroup) as failed:
        thread.close()
    assert [str(each) for each in failed.value.exceptions] == ["it broke"]


def test_a_call_has_a_bound(thread: LoopThread[Opened], opened: Opened) -> None:
    thread.open()
    with pytest.raises(RequestTimeout, match="the thing had no result within"):
        thread.call(opened.wait, 0.01)
    thread.close()
    assert opened.notes == ["waits", "cancelled", "closed"]


def test_the_next_item_has_a_bound(thread: LoopThread[Opened], opened: Opened) -> None:
    async def none() -> AsyncGenerator[int, None]:
        await opened.wait()
        yield 1

    thread.open()
    iterator = BlockingIterator(thread, none, 0.01)
    with pytest.raises(RequestTimeout, match=r"the next item did not come within 0\.01 s"):
        next(iterator)
    assert list(iterator) == []
    thread.close()


def test_a_calls_own_timeout_is_not_the_bound(thread: LoopThread[Opened]) -> None:
    async def late() -> None:
        raise TimeoutError("its own")

    thread.open()
    with pytest.raises(TimeoutError, match="its own"):
        thread.call(late, BOUND)
    thread.close()


def test_ctrl_c_cancels_the_call(thread: LoopThread[Opened], opened: Opened) -> None:
    async def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await opened.wait()

    thread.open()
    with pytest.raises(KeyboardInterrupt):
        thread.call(interrupted, BOUND)
    thread.close()
    assert opened.notes == ["waits", "cancelled", "closed"]


def test_ctrl_c_ends_opening(opened: Opened) -> None:
    @asynccontextmanager
    async def never() -> AsyncIterator[Opened]:
        os.kill(os.getpid(), signal.SIGINT)
        await opened.wait()
        yield opened

    with pytest.raises(KeyboardInterrupt):
        LoopThread(never(), "thing").open()
    assert opened.notes == ["waits", "cancelled"]


def test_a_dropped_iterator_ends_its_generator(thread: LoopThread[Opened], opened: Opened) -> None:
    ended = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(10_000):
                yield number
            await opened.wait()
        finally:
            ended.set()

    thread.open()
    iterator = BlockingIterator(thread, numbers, BOUND)
    assert next(iterator) == 0
    del iterator
    assert ended.wait(BOUND)
    slow = BlockingIterator(thread, numbers, BOUND)
    with suppress(StopIteration):
        while next(slow) < 9_999:
            pass
    slow.close()
    assert list(slow) == []
    thread.close()
