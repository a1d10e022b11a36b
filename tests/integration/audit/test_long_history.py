"""The history of an aggregate with many events: how many messages are read for it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from eventstore.audit import HistoryStarts, HistoryView, aggregate_history
from eventstore.audit.history_starts import KEPT_EVERY, HistoryStart
from eventstore.client.client import connect
from eventstore.errors import HistoryTooLong
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import Head
from eventstore.store.snapshots.format import Snapshot
from tests.connection import settings_for
from tests.integration.commanding import Added, Counter, Line, counting, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = 12_000
LIMIT = 20
NEAR = 2_000
"""At most so many messages are read from the nearest start, which is kept at every thousandth."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(nats_server: EmbeddedServer) -> AsyncIterator[Line]:
    """A counter of as many events, each of which adds one."""
    domain = counting(f"l{secrets.token_hex(4)}", snapshot_every=1_000)
    async with (
        connect(settings_for(nats_server.url, domain.name)) as client,
        opened(client, domain) as line,
    ):
        for _ in range(EVENTS // 1_000):
            await line.store.append("counter", "c1", [Added(amount=1)] * 1_000)
        yield line


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each page of a direct get had."""
    counted: list[int] = []
    page = DirectReader.page

    async def counting_page(self: DirectReader, *args: Any, **options: Any) -> Any:
        found = await page(self, *args, **options)
        counted.append(len(found[0]))
        return found

    monkeypatch.setattr(DirectReader, "page", counting_page)
    return counted


async def history(line: Line, **options: Any) -> HistoryView:
    options = {"limit": LIMIT, **options}
    return await aggregate_history(line.client, line.domain, "counter", "c1", **options)


def check(found: HistoryView, version: int) -> None:
    assert (found.version, found.state) == (version, {"total": version})
    shown = range(max(0, version - LIMIT) + 1, version + 1)
    assert [each.version for each in found.steps] == [*shown]
    assert (found.earlier, found.later) == (max(0, version - LIMIT), EVENTS - version)
    assert found.chain.problem is None


def check_changes(found: HistoryView, after: int = 0) -> None:
    for each in found.steps:
        totals = [(change.before, change.after) for change in each.changes]
        assert totals == ([(each.version - 1, each.version)] if each.version > after else [])
        assert each.data == {"amount": 1}


async def test_a_whole_history_is_read_once_and_verified(line: Line, reads: list[int]) -> None:
    found = await history(line)
    check(found, EVENTS)
    check_changes(found)
    assert (sum(reads), found.chain.verified, found.chain.events) == (EVENTS, True, EVENTS)


async def test_a_time_is_found_by_reading_it_once_more_at_most(
    line: Line, reads: list[int]
) -> None:
    read = line.store.read("counter", "c1", after=1_499, limit=1)
    (event,) = [each async for each in read]
    reads.clear()
    starts = HistoryStarts()
    found = await history(line, at=event.time, starts=starts)
    assert found.version >= 1_500  # others of its batch have the same time
    assert found.state == {"total": found.version}
    assert len(found.steps) == LIMIT
    check_changes(found)


async def test_states_that_were_kept_make_all_versions_near(line: Line, reads: list[int]) -> None:
    starts = HistoryStarts()
    check(await history(line, starts=starts), EVENTS)
    assert sum(reads) == EVENTS
    for version in (EVENTS, EVENTS - 1, 7_654, 1_000, 1_005, 30, 1, 0):
        reads.clear()
        found = await history(line, at=version, starts=starts, max_events=NEAR)
        check(found, version)
        check_changes(found)
        assert sum(reads) <= NEAR
        assert not found.chain.complete or version == EVENTS


async def test_a_snapshot_makes_the_newest_version_near(line: Line, reads: list[int]) -> None:
    near = EVENTS - 10
    read = line.store.read("counter", "c1", after=near - 1, limit=1)
    (event,) = [each async for each in read]
    head = Head.after(event)
    snapshot = Snapshot(Counter(near), head, CommandFilter.empty())
    assert line.snapshots.save_soon(line.domain.decider("counter"), "c1", snapshot)
    await line.snapshots.drain(45.0)
    reads.clear()
    starts = HistoryStarts(line.snapshots)

    found = await history(line, starts=starts, max_events=2 * LIMIT + MAX_PAGE)
    check(found, EVENTS)
    assert found.began == near
    check_changes(found, after=near)
    assert sum(reads) <= 2 * LIMIT

    with pytest.raises(HistoryTooLong, match="more than 1,000: there is no nearer snapshot"):
        await history(line, at=5_000, starts=starts, max_events=1_000)


async def test_states_of_another_log_are_not_used(line: Line) -> None:
    starts = HistoryStarts()
    await history(line, at=2_000, starts=starts)
    async with opened(line.client, counting(f"{line.domain.name}-b")) as other:
        for _ in range(2):
            await other.store.append("counter", "c1", [Added(amount=5)] * 1_000)
        found = await aggregate_history(
            other.client, other.domain, "counter", "c1", limit=LIMIT, starts=starts
        )
    assert (found.version, found.state) == (2_000, {"total": 10_000})


async def test_kept_states_are_bounded_and_those_asked_for_last_are_kept() -> None:
    domain = counting("bounded")
    decider = domain.decider("counter")
    starts = HistoryStarts(max_bytes=200_000)
    for own in ("c1", "c2", "c3"):
        for number in range(1, 1_001):
            version = number * KEPT_EVERY
            reached = HistoryStart(Counter(version), Head(version, version, "f" * 64, own))
            starts.keep(domain.codec, decider, own, reached)
    kept = {own: starts.nearest(decider, own, 10**9) for own in ("c1", "c2", "c3")}

    assert kept["c1"] is None
    assert kept["c3"] is not None
    assert kept["c3"].head.version >= 960_000
    sizes = [each.bytes for each in starts._kept.values()]
    assert sum(sizes) <= 200_000
    middle = starts.nearest(decider, "c3", 500_000)
    assert middle is not None
    assert middle.state == Counter(middle.head.version)
    assert 500_000 - middle.head.version <= 32_000
