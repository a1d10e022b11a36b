"""The tail of the log: several readers, one reading, and no reader that another one delays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from eventstore.errors import CorruptLog
from eventstore.store import tail as tail_module
from eventstore.store.log_mark import LogMark
from eventstore.store.tail import Page, Tails
from tests.unit.projections.counters import Counted, codec
from tests.unit.projections.memory import MemoryLog

BOUND = 10.0


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(codec)


def following(tails: Tails, log: MemoryLog, after: int = 0) -> AsyncGenerator[Page, None]:
    def read(position: int, _: LogMark | None) -> AsyncGenerator[Page, None]:
        return log.pages(after=position, live=True, max_events=5, unread=True)

    return tails.pages(read, after, 5, "all")


async def taken(pages: AsyncGenerator[Page, None], until: int) -> list[int]:
    positions: list[int] = []
    async with asyncio.timeout(BOUND):
        while not positions or positions[-1] < until:
            page = await anext(pages)
            assert len(page.events) <= 5
            positions += [event.position for event in page.events]
    return positions


async def joined(log: MemoryLog, *readers: AsyncGenerator[Page, None]) -> int:
    """Have them all read from the tail, after one event, whose position is returned."""
    for each in readers:
        await anext(each)
    end = await log.add_live("c", Counted(by=1))
    for each in readers:
        assert await taken(each, end) == [end]
    return end


async def test_readers_that_have_caught_up_share_one_reading(log: MemoryLog) -> None:
    log.add("c", *[Counted(by=1)] * 12)
    tails = Tails()
    async with aclosing(following(tails, log)) as one, aclosing(following(tails, log, 4)) as two:
        assert await taken(one, 12) == list(range(1, 13))
        assert await taken(two, 12) == list(range(5, 13))
        assert len(log.readers) == 2

        for end in range(13, 20):
            await log.add_live("c", Counted(by=1))
            assert await taken(one, end) == [end]
        assert await taken(two, 19) == list(range(13, 20))

        async with aclosing(following(tails, log, 19)) as three:
            assert (await anext(three)).pending == 0
            await log.add_live("c", Counted(by=1))
            assert await taken(three, 20) == [20]
    assert len(log.readers) == 3
    assert len(asyncio.all_tasks()) == 1


async def test_a_page_says_how_many_events_have_come_after_it(log: MemoryLog) -> None:
    tails = Tails()
    async with aclosing(following(tails, log)) as one, aclosing(following(tails, log)) as two:
        await joined(log, one, two)
        for end in range(2, 15):
            await log.add_live("c", Counted(by=1))
            await taken(one, end)
        found = [await anext(two) for _ in range(3)]
        assert [(each.position, each.pending) for each in found] == [(6, 8), (11, 3), (14, 0)]


async def test_after_many_events_those_that_follow_come_in_few_pages(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "_GATHERING_SECONDS", 0.3)

    def read(position: int, _: LogMark | None) -> AsyncGenerator[Page, None]:
        return log.pages(after=position, live=True, unread=True)

    async with aclosing(Tails().pages(read, 0, 500, "all")) as pages:
        await joined(log, pages)
        sizes = asyncio.create_task(_sizes(pages, log.end + 70))
        await log.add_live("c", *[Counted(by=1)] * 40)
        for _ in range(30):
            await asyncio.sleep(0)
            await log.add_live("c", Counted(by=1))
        assert len(await sizes) < 10


async def _sizes(pages: AsyncGenerator[Page, None], until: int) -> list[int]:
    sizes: list[int] = []
    async with asyncio.timeout(BOUND):
        async for page in pages:
            sizes.append(len(page.events))
            if page.position >= until:
                break
    return sizes


async def test_one_that_falls_too_far_behind_reads_by_itself(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "_MAX_KEPT", 6)
    tails = Tails()
    async with aclosing(following(tails, log)) as fast, aclosing(following(tails, log)) as slow:
        await joined(log, fast, slow)
        for end in range(2, 31):
            await log.add_live("c", Counted(by=1))
            assert await taken(fast, end) == [end]
        assert await taken(slow, 30) == list(range(2, 31))
        assert len(log.readers) == 3
        await log.add_live("c", Counted(by=1))
        assert await taken(slow, 31) == await taken(fast, 31) == [31]


async def test_large_events_are_kept_by_their_bytes(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "_MAX_KEPT_BYTES", 20)
    tails = Tails()
    async with aclosing(following(tails, log)) as fast, aclosing(following(tails, log)) as slow:
        await joined(log, fast, slow)
        for end in range(2, 11):
            await log.add_live("c", Counted(by=1))
            assert await taken(fast, end) == [end]
        assert await taken(slow, 10) == list(range(2, 11))
        assert len(log.readers) == 3


async def test_an_error_is_met_by_each_reader_at_its_own_position(log: MemoryLog) -> None:
    def fail(page: Page) -> None:
        if page.position >= 3:
            raise CorruptLog("here")

    tails = Tails()
    async with aclosing(following(tails, log)) as one, aclosing(following(tails, log)) as two:
        await joined(log, one, two)
        await log.add_live("c", Counted(by=2))
        assert await taken(one, 2) == [2]
        log.before_page = fail
        await log.add_live("c", Counted(by=3))
        for each in (one, two):
            with pytest.raises(CorruptLog, match="here"):
                await taken(each, 3)


@pytest.mark.parametrize("seed", range(20))
async def test_every_reader_gets_every_event_once_and_in_order(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tail_module, "_MAX_KEPT", 8)
    chance = random.Random(seed)  # noqa: S311
    tails = Tails()

    async def read(after: int) -> list[int]:
        found: list[int] = []
        async with aclosing(following(tails, log, after)) as pages:
            async for page in pages:
                found += [event.position for event in page.events]
                if page.position == 100:
                    return list(range(after + 1, 101)) if found == [] else found
                for _ in range(chance.choice([0, 0, 1, 30])):
                    await asyncio.sleep(0)
        raise AssertionError

    async def add() -> None:
        while log.end < 100:
            await log.add_live("c", *[Counted(by=1)] * min(chance.randint(1, 3), 100 - log.end))
            for _ in range(chance.choice([0, 1, 5])):
                await asyncio.sleep(0)

    starts = [0, 0, 3, 50]
    async with asyncio.timeout(BOUND):
        *found, _ = await asyncio.gather(*map(read, starts), add())
    assert found == [list(range(start + 1, 101)) for start in starts]
    assert len(asyncio.all_tasks()) == 1
