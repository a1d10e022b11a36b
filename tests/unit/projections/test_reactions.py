"""Reactions: after the commit, only for new events, at most once, without delaying anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventstore.errors import ProjectionError
from eventstore.messages.events import RecordedEvent
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.worker import reactions
from eventstore.projections.worker.parked_events import retry
from eventstore.service.metrics import Metrics
from tests.unit.projections.counters import Counted, counting, make_tables, rows_of
from tests.unit.projections.following import BOUND, Poison, following, poisoned, until, worker_of
from tests.unit.projections.memory import MemoryLog


@pytest.fixture
async def tables(database: Database) -> Database:
    for name in ("first", "second"):
        counting(name)
    await make_tables(database)
    return database


class ReactionRecorder:
    """A projection, and what it has reacted to."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.seen: list[int] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

        @projection.reacts
        async def react(event: Counted, recorded: RecordedEvent) -> None:
            await self.go_on.wait()
            if event.by == 99:
                raise Poison("nobody listens")
            self.seen.append(recorded.position)


async def test_only_what_comes_after_it_has_caught_up(log: MemoryLog, tables: Database) -> None:
    first = ReactionRecorder(counting("first"))
    log.add("c", Counted(by=1), Counted(by=2))

    async with following(worker_of(log, tables, first.projection)) as worker:
        await worker.wait(2, BOUND)
        await until(lambda: worker.progress["first"].state == "live")
        await log.add_live("c", Counted(by=3))
        await log.add_live("c", Counted(by=4))
        await until(lambda: first.seen == [3, 4])
        worker.pause(["first"])
        await log.add_live("c", Counted(by=5))
        worker.pause([])
        await worker.wait(5, BOUND)
        await until(lambda: worker.progress["first"].state == "live")
        await log.add_live("c", Counted(by=6))
        await until(lambda: len(first.seen) == 3)

    assert first.seen == [3, 4, 6]


async def test_the_rows_are_there_before_it(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    found: list[object] = []

    @first.reacts
    async def look(_event: Counted) -> None:
        found.append(await rows_of(tables, first))

    async with following(worker_of(log, tables, first)) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        await log.add_live("c", Counted(by=1))
        await until(lambda: found)

    assert found == [[(1, 1)]]


async def test_one_that_hangs_delays_no_commit_and_keeps_the_order(
    log: MemoryLog, tables: Database
) -> None:
    first = ReactionRecorder(counting("first"))
    first.go_on.clear()

    async with following(worker_of(log, tables, first.projection, counting("second"))) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        for number in range(5):
            await worker.wait(await log.add_live("c", Counted(by=number)), BOUND)
        assert first.seen == []
        first.go_on.set()
        await until(lambda: first.seen == [1, 2, 3, 4, 5])


async def test_failures_and_timeouts_are_logged_and_stop_nothing(
    log: MemoryLog, tables: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first = ReactionRecorder(counting("first"))
    metrics = Metrics()
    worker = worker_of(log, tables, first.projection, reaction_timeout=0.05, telemetry=metrics)

    async with following(worker):
        await until(lambda: worker.progress["first"].state == "live")
        await log.add_live("c", Counted(by=99))
        await until(lambda: "nobody listens" in caplog.text)
        first.go_on.clear()
        await log.add_live("c", Counted(by=2))
        await until(lambda: "not done after 0.05 s" in caplog.text)
        first.go_on.set()
        await log.add_live("c", Counted(by=3))
        await until(lambda: first.seen == [3])

    assert "no reaction to Counted" in caplog.text
    assert worker.failures == []
    assert worker.progress["first"].applied == 3
    counted = 'eventstore_reactions_total{outcome="failed",projection="first"} 2.0'
    assert counted.encode() in metrics.render()


async def test_one_whose_task_was_cancelled_is_logged_and_stops_nothing(
    log: MemoryLog, tables: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first = counting("first")
    seen: list[int] = []

    @first.reacts
    async def react(_event: Counted, recorded: RecordedEvent) -> None:
        if recorded.position == 1:
            helper = asyncio.create_task(asyncio.sleep(60))
            helper.cancel()
            await helper
        seen.append(recorded.position)

    async with following(worker_of(log, tables, first)) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        await log.add_live("c", Counted(by=1))
        await log.add_live("c", Counted(by=2))
        await until(lambda: seen)

    assert seen == [2]
    assert "something that was awaited has been cancelled" in caplog.text


async def test_events_beyond_the_queue_are_dropped_and_logged(
    log: MemoryLog,
    tables: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reactions, "MAX_QUEUED", 2)
    first = ReactionRecorder(counting("first"))
    first.go_on.clear()

    async with following(worker_of(log, tables, first.projection)) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        for number in range(4):
            await worker.wait(await log.add_live("c", Counted(by=number)), BOUND)
            await asyncio.sleep(0)
        first.go_on.set()
        await until(lambda: len(first.seen) == 3)

    assert "at position 4: 2 others are queued already" in caplog.text
    assert first.seen == [1, 2, 3]


async def test_what_waits_at_the_end_is_done_within_its_time(
    log: MemoryLog, tables: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first = ReactionRecorder(counting("first"))
    first.go_on.clear()
    async with following(worker_of(log, tables, first.projection)) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        await worker.wait(await log.add_live("c", Counted(by=1), Counted(by=2)), BOUND)
        worker.stop()
        await until(lambda: worker.progress["first"].position == 2)
        first.go_on.set()
    assert first.seen == [1, 2]

    first.go_on.clear()
    stuck = worker_of(log, tables, first.projection, reaction_timeout=0.05)
    async with following(stuck):
        await until(lambda: stuck.progress["first"].state == "live")
        await stuck.wait(await log.add_live("c", *[Counted(by=1)] * 9), BOUND)
    assert "queued reactions are dropped" in caplog.text


async def test_what_is_parked_or_retried_is_not_reacted_to(
    log: MemoryLog, tables: Database
) -> None:
    broken = ReactionRecorder(counting("first", fails=poisoned, on_poison="park"))
    async with following(worker_of(log, tables, broken.projection)) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        await worker.wait(await log.add_live("a", Counted(by=13)), BOUND)
        await until(lambda: worker.progress["first"].state == "live")
        await log.add_live("a", Counted(by=2))
        await log.add_live("b", Counted(by=3))
        await until(lambda: broken.seen)

        healed = ReactionRecorder(counting("first", on_poison="park"))
        result = await retry(log, tables, healed.projection)  # type: ignore[arg-type]

    assert broken.seen == [3]
    assert (len(result.retried), healed.seen) == (2, [])


def test_what_cannot_react_is_refused() -> None:
    first = counting("first")
    with pytest.raises(ProjectionError, match="handler plain: a reaction must be async"):

        @first.reacts  # type: ignore[arg-type]
        def plain(event: Counted) -> None: ...

    @first.reacts
    async def once(event: Counted) -> None: ...

    with pytest.raises(ProjectionError, match="Counted already has a handler; twice is a second"):

        @first.reacts
        async def twice(event: Counted) -> None: ...

    with pytest.raises(ProjectionError, match="handler in_parts: a reaction must be async"):

        @first.reacts  # type: ignore[arg-type]
        async def in_parts(event: Counted) -> AsyncIterator[None]:
            yield


def test_a_callable_object_may_react() -> None:
    class Notifying:
        async def __call__(self, event: Counted) -> None: ...

    first = counting("first")
    first.reacts(Notifying())
    assert first.has_reactions
