"""Poison events: retried, then stopped before or parked, and retried in their order."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import BigInteger, Column, Connection, Integer, Table, insert, select

from eventstore.concurrency.backoff import Backoff
from eventstore.errors import (
    CorruptLog,
    NotParked,
    PoisonEvent,
    ProjectionError,
    UnknownType,
    VersionChanged,
)
from eventstore.messages.events import RecordedEvent, StoredEvent
from eventstore.messages.types import Event
from eventstore.projections.database import checkpoint, parking
from eventstore.projections.database.database import Database
from eventstore.projections.database.parking import ParkedEvent
from eventstore.projections.health import ProjectionsCheck
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.rebuild.rebuild import Rebuild
from eventstore.projections.worker import runner as follower
from eventstore.projections.worker.parked_events import discard, parked_events, retry
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.metrics import Metrics
from tests.unit.projections.counters import Counted, counting, make_tables, metadata, rows_of, table
from tests.unit.projections.following import (
    BOUND,
    Poison,
    checkpoint_of,
    following,
    poisoned,
    until,
    worker_of,
)
from tests.unit.projections.memory import MemoryLog, time_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "BACKOFF", Backoff(0.002, 2.0))


@pytest.fixture
async def tables(database: Database) -> Database:
    for name in ("first", "second"):
        counting(name)
    await make_tables(database)
    return database


def parking_one() -> Projection:
    return counting("first", fails=poisoned, retries=2, on_poison="park")


def repaired() -> Projection:
    return counting("first", on_poison="park")


def shown(parked: list[ParkedEvent]) -> list[tuple[object, ...]]:
    return [(each.position, each.aggregate_id, each.error is None, each.tries) for each in parked]


class Flaky:
    """Fails a number of times, and then no more."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries = 0

    def __call__(self, event: Counted) -> None:
        if event.by == 13:
            self.tries += 1
            if self.tries <= self.failures:
                raise Poison("not yet")


@pytest.mark.parametrize("failures", [1, 3])
async def test_it_is_retried_and_nothing_is_lost_or_repeated(
    log: MemoryLog, tables: Database, failures: int
) -> None:
    # Tried together with the other, then alone: two failures each time it is met with others.
    flaky = Flaky(failures + 1)
    first = counting("first", fails=flaky, retries=3)
    metrics = Metrics()
    log.add("c", Counted(by=1), Counted(by=13), Counted(by=3))

    worker = worker_of(log, tables, first, counting("second"), telemetry=metrics)
    async with following(worker):
        await worker.wait(3, BOUND)
        await until(lambda: worker.progress["first"].state == "live")
        assert worker.progress["first"].trouble is None

    assert await rows_of(tables, first) == [(1, 1), (2, 13), (3, 3)]
    tries = f'eventstore_retries_total{{operation="project"}} {float(failures)}'
    assert tries.encode() in metrics.render()
    assert worker.progress["first"].applied == 3


async def test_the_others_continue_while_one_is_retried(
    log: MemoryLog, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BACKOFF", Backoff(1_000, 1_000))
    first = counting("first", fails=poisoned, retries=1)
    log.add("c", Counted(by=13))

    async with following(worker_of(log, tables, first, counting("second"))) as worker:
        await worker.wait(await log.add_live("c", Counted(by=2)), BOUND, projection="second")
        progress = worker.progress["first"]
        await until(lambda: progress.state == "retrying")
        assert "no thirteens here" in str(progress.trouble)
        assert (progress.error, progress.position) == (None, 0)
        finding = await health_of(worker, log)
        assert finding == ("degraded", "degraded", "healthy")


async def health_of(worker: ProjectionWorker, log: MemoryLog) -> tuple[str, ...]:
    async def log_end() -> int:
        return log.end

    finding = await ProjectionsCheck(worker, log_end)()
    return finding.status, *(each["status"] for each in finding.facts["projections"].values())


async def test_after_its_tries_it_stops(log: MemoryLog, tables: Database) -> None:
    flaky = Flaky(1_000)
    first = counting("first", fails=flaky, retries=4)
    log.add("c", Counted(by=13))

    with pytest.raises(ProjectionError, match="not yet"):
        await worker_of(log, tables, first).run()

    assert flaky.tries == 5


async def test_stopping_does_not_wait_for_the_next_retry(
    log: MemoryLog, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BACKOFF", Backoff(1_000, 1_000))
    log.add("c", Counted(by=13))

    async with asyncio.timeout(BOUND):
        async with following(
            worker_of(log, tables, counting("first", fails=poisoned, retries=1))
        ) as worker:
            await until(lambda: worker.progress["first"].state == "retrying")


async def test_parked_its_aggregate_waits_and_others_go_on(
    log: MemoryLog, tables: Database
) -> None:
    first, second = parking_one(), counting("second")
    metrics = Metrics()
    log.add("a", Counted(by=1), Counted(by=13))
    log.add("b", Counted(by=3))
    log.add("a", Counted(by=4))

    async with following(worker_of(log, tables, first, second, telemetry=metrics)) as worker:
        await worker.wait(4, BOUND)
        await log.add_live("b", Counted(by=5))
        await worker.wait(await log.add_live("a", Counted(by=13)), BOUND)
        assert worker.failures == []
        assert await worker.parked() == {"first": 3}
        assert await health_of(worker, log) == ("degraded", "degraded", "healthy")

    assert await rows_of(tables, first) == [(1, 1), (3, 3), (5, 5)]
    assert len(await rows_of(tables, second)) == 6
    assert shown(await parked_events(tables)) == [
        (2, "a", False, 3),
        (4, "a", True, 0),
        (6, "a", True, 0),
    ]
    (event, *_) = await parked_events(tables, "first")
    assert event.error == "Poison: no thirteens here"
    assert (event.event_id, event.event_type) == (log.events[1].id, "Counted")
    assert b'eventstore_parked_total{code="projection_failed"} 1.0' in metrics.render()


async def test_what_is_parked_stays_so_over_a_restart(log: MemoryLog, tables: Database) -> None:
    log.add("a", Counted(by=13))
    async with following(worker_of(log, tables, parking_one())) as worker:
        await worker.wait(1, BOUND)
    log.add("a", Counted(by=2))

    async with following(worker_of(log, tables, repaired())) as worker:
        await worker.wait(2, BOUND)

    assert [each.position for each in await parked_events(tables)] == [1, 2]
    assert await rows_of(tables, repaired()) == []


async def parked_log(log: MemoryLog, tables: Database) -> None:
    """In `a` the first and the third fail, in `b` the first; the others are parked behind."""
    log.add("a", Counted(by=13), Counted(by=2), Counted(by=13), Counted(by=4))
    log.add("b", Counted(by=13), Counted(by=6))
    async with following(worker_of(log, tables, parking_one())) as worker:
        await worker.wait(6, BOUND)


async def test_a_retry_applies_all_in_order(log: MemoryLog, tables: Database) -> None:
    await parked_log(log, tables)
    order: list[int] = []
    first = counting("first", fails=lambda event: order.append(event.by), on_poison="park")

    result = await retry(log, tables, first)  # type: ignore[arg-type]

    assert [each.position for each in result.retried] == [1, 2, 3, 4, 5, 6]
    assert result.left == await parked_events(tables) == []
    assert order == [13, 2, 13, 4, 13, 6]
    assert len(await rows_of(tables, first)) == 6


async def test_a_retry_stops_at_a_failure_and_continues_with_other_aggregates(
    log: MemoryLog, tables: Database
) -> None:
    await parked_log(log, tables)

    def third(event: Counted) -> None:
        seen.append(event.by)
        if len(seen) == 3:
            raise Poison("still not")

    seen: list[int] = []
    first = counting("first", fails=third, on_poison="park")
    result = await retry(log, tables, first)  # type: ignore[arg-type]

    assert [each.position for each in result.retried] == [1, 2, 5, 6]
    assert shown(result.left) == [(3, "a", False, 1), (4, "a", True, 0)]
    assert result.left[0].error == "Poison: still not"
    assert [row[0] for row in await rows_of(tables, first)] == [1, 2, 5, 6]


async def test_one_aggregate_can_be_retried_by_any_of_its_events(
    log: MemoryLog, tables: Database
) -> None:
    await parked_log(log, tables)

    result = await retry(log, tables, repaired(), 6)  # type: ignore[arg-type]

    assert [each.position for each in result.retried] == [5, 6]
    assert result.left == []
    assert [each.position for each in await parked_events(tables)] == [1, 2, 3, 4]
    with pytest.raises(NotParked, match="parked message 6: projection first has parked nothing"):
        await retry(log, tables, repaired(), 6)  # type: ignore[arg-type]


async def test_a_half_done_event_leaves_nothing_behind(log: MemoryLog, tables: Database) -> None:
    """Its first statement succeeds and its second fails: neither is in the rows."""
    await parked_log(log, tables)
    first = counting("first", on_poison="park")
    real = first.statements
    first.statements = lambda recorded: real(recorded) * 2  # type: ignore[method-assign]

    result = await retry(log, tables, first)  # type: ignore[arg-type]

    assert result.retried == []
    assert str(result.left[0].error).startswith("IntegrityError: ")
    assert await rows_of(tables, first) == []


async def test_retried_beside_a_worker_that_parks_more_the_order_holds(
    log: MemoryLog, tables: Database
) -> None:
    """Events of the aggregate keep arriving; each is applied once, in order."""
    order: list[int] = []
    healed = False

    def fails(event: Counted) -> None:
        if not healed:
            poisoned(event)

    def in_order(event: Counted) -> None:
        fails(event)
        order.append(event.by)

    first = counting("first", fails=in_order, on_poison="park")
    async with following(worker_of(log, tables, first)) as worker:
        await worker.wait(await log.add_live("a", Counted(by=13)), BOUND)
        healed = True
        async with asyncio.TaskGroup() as tasks:
            retrying = tasks.create_task(
                retry(log, tables, first)  # type: ignore[arg-type]
            )
            for number in range(100, 160):
                await log.add_live("a", Counted(by=number))
                await asyncio.sleep(0)
        await worker.wait(log.end, BOUND)
        while (await retry(log, tables, first)).retried:  # type: ignore[arg-type]
            await worker.wait(log.end, BOUND)

    assert retrying.result().retried[0].position == 1
    assert await parked_events(tables) == []
    assert [row[1] for row in await rows_of(tables, first)] == [13, *range(100, 160)]
    assert order == [13, *range(100, 160)]


async def test_given_up_for_good_it_is_missing(log: MemoryLog, tables: Database) -> None:
    await parked_log(log, tables)

    await discard(tables, "first", 1)
    with pytest.raises(NotParked):
        await discard(tables, "first", 1)
    result = await retry(log, tables, repaired(), 2)  # type: ignore[arg-type]

    assert [each.position for each in result.retried] == [2, 3, 4]
    assert [row[0] for row in await rows_of(tables, repaired())] == [2, 3, 4]


async def test_what_the_code_of_another_version_has_made_is_not_touched(
    log: MemoryLog, tables: Database
) -> None:
    await parked_log(log, tables)

    with pytest.raises(VersionChanged):
        await retry(log, tables, counting("first", version=2))  # type: ignore[arg-type]

    assert len(await parked_events(tables)) == 6


async def test_an_event_that_the_log_lacks_is_reported(log: MemoryLog, tables: Database) -> None:
    await parked_log(log, tables)
    del log.events[2]

    with pytest.raises(CorruptLog, match="counter a has no event at position 3"):
        await retry(log, tables, repaired())  # type: ignore[arg-type]


async def test_set_back_it_comes_to_what_it_has_parked_once_more(
    log: MemoryLog, tables: Database
) -> None:
    await parked_log(log, tables)

    def reset(connection: Connection) -> None:
        checkpoint.restart(connection, repaired(), 0, time_of(0))

    await tables.transact(reset)
    async with following(worker_of(log, tables, repaired())) as worker:
        await worker.wait(6, BOUND)

    assert len(await rows_of(tables, repaired())) == 6
    assert await parked_events(tables) == []


async def test_parking_and_the_checkpoint_are_one_transaction(
    log: MemoryLog, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("no pen")

    monkeypatch.setattr(parking, "park", broken)
    log.add("a", Counted(by=13))

    with pytest.raises(LookupError):
        await worker_of(log, tables, parking_one()).run()

    assert (await checkpoint_of(tables, parking_one())).position == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"on_poison": "skip"}, "'stop' or 'park', not 'skip'"), ({"retries": -1}, "0 or more")],
    ids=["on_poison", "retries"],
)
def test_what_cannot_work_is_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ProjectionError, match=problem):
        Projection("first", tables=counting("first").tables, **options)  # type: ignore[arg-type]


pieces = Table(
    "pieces",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
)


def in_pieces(fails_at: int | None) -> Projection:
    projection = Projection("pieces", tables=[pieces], retries=0, on_poison="park")

    @projection.handles
    def counted(event: Counted, recorded: RecordedEvent) -> Statement:
        if event.by == fails_at:
            raise Poison("not this one")
        return insert(pieces).values(position=recorded.position, part=recorded.part)

    return projection


def add_in_parts(log: MemoryLog, *amounts: int) -> int:
    """One event that is read as several."""
    position = log.add("c", Counted(by=amounts[0]))
    first = log.events[-1]
    for part, by in enumerate(amounts[1:], 1):
        log.events.append(msgspec.structs.replace(first, data=Counted(by=by), part=part))
    return position


async def test_an_event_of_several_parts_is_parked_and_retried_as_one(
    log: MemoryLog, database: Database
) -> None:
    await make_tables(database)
    log.add("c", Counted(by=1))
    add_in_parts(log, 2, 13)
    last = add_in_parts(log, 3, 4)

    async def found() -> list[tuple[int, int]]:
        async with database.engine.connect() as connection:
            rows = await connection.execute(select(pieces).order_by(*pieces.primary_key.columns))
            return [(row.position, row.part) for row in rows]

    worker = worker_of(log, database, in_pieces(13))
    async with following(worker):
        await worker.wait(last, BOUND)
    assert await found() == [(1, 0)]
    assert [each.position for each in await parked_events(database, "pieces")] == [2, 3]

    store: Any = log
    again = await retry(store, database, in_pieces(13))
    assert (len(again.retried), len(again.left), await found()) == (0, 2, [(1, 0)])

    mended = await retry(store, database, in_pieces(None))
    assert (len(mended.retried), len(mended.left)) == (2, 0)
    assert await found() == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]


# What cannot be read


def indexing() -> Projection:
    """An index beside the read models: a row for each event of the log."""
    rows = table("index")
    projection = Projection("index", tables=[rows], retries=0)

    @projection.handles
    def indexed(stored: StoredEvent) -> Statement:
        return insert(rows).values(
            position=stored.position, counter=stored.aggregate_id, by=stored.version
        )

    return projection


@pytest.fixture
async def indexed(tables: Database) -> Database:
    indexing()
    await make_tables(tables)
    return tables


async def positions(database: Database, projection: Projection) -> list[int]:
    return [position for position, _ in await rows_of(database, projection)]


@pytest.mark.parametrize("batch", [1, 2, 100])
async def test_what_cannot_be_read_stops_the_read_models_and_not_the_index(
    log: MemoryLog, indexed: Database, batch: int
) -> None:
    log.add("a", Counted(by=1))
    log.add_unread("counter", "a", "LookedAt")
    log.add("b", Counted(by=2))
    log.add_unread("counter", "a", "Painted", UnknownType("no Painted here"))
    log.add("b", Counted(by=3))
    read, index = counting("first", retries=1), indexing()

    async with following(worker_of(log, indexed, read, index, batch=batch)) as worker:
        await worker.wait(5, BOUND, projection="index")
        await until(lambda: worker.progress["first"].state == "failed")
        await log.add_live("b", Counted(by=4))
        await worker.wait(6, BOUND, projection="index")
        (failure,) = worker.failures

    assert isinstance(failure, PoisonEvent)
    assert (failure.event_type, failure.position) == ("Painted", 4)
    assert failure.reason == "UnknownType: no Painted here"
    assert await positions(indexed, index) == [1, 2, 3, 4, 5, 6]
    assert await positions(indexed, read) == [1, 3]
    assert (await checkpoint_of(indexed, read)).position == 3
    assert (await checkpoint_of(indexed, index)).position == 6


async def test_code_that_can_read_it_goes_on_right_before_it(
    log: MemoryLog, indexed: Database
) -> None:
    log.add("a", Counted(by=1))
    log.add_unread("counter", "a", "Painted", UnknownType("no Painted here"))
    log.add("a", Counted(by=3))
    read, index = counting("first"), indexing()
    with pytest.raises(PoisonEvent):
        await worker_of(log, indexed, read).run()

    read_by_newer_code(log)
    async with following(worker_of(log, indexed, read, index)) as worker:
        await worker.wait(3, BOUND)

    assert await rows_of(indexed, read) == [(1, 1), (2, 13), (3, 3)]
    assert await positions(indexed, index) == [1, 2, 3]


async def test_what_cannot_be_read_is_parked_with_what_follows_and_retried(
    log: MemoryLog, indexed: Database
) -> None:
    log.add_unread("counter", "a", "Painted", UnknownType("no Painted here"))
    log.add_unread("counter", "a", "LookedAt")
    log.add("a", Counted(by=3))
    log.add("b", Counted(by=4))
    read, index = repaired(), indexing()

    async with following(worker_of(log, indexed, read, index)) as worker:
        await worker.wait(4, BOUND)

    assert await positions(indexed, read) == [4]
    assert await positions(indexed, index) == [1, 2, 3, 4]
    waiting = await parked_events(indexed)
    assert shown(waiting) == [(1, "a", False, 1), (3, "a", True, 0)]
    assert waiting[0].error == "UnknownType: no Painted here"
    assert waiting[0].event_type == "Painted"

    again = await retry(log, indexed, read)  # type: ignore[arg-type]
    assert (again.retried, shown(again.left)) == ([], [(1, "a", False, 2), (3, "a", True, 0)])

    read_by_newer_code(log)
    done = await retry(log, indexed, read)  # type: ignore[arg-type]
    assert ([each.position for each in done.retried], done.left) == ([1, 3], [])
    assert await rows_of(indexed, read) == [(1, 13), (3, 3), (4, 4)]


def read_by_newer_code(log: MemoryLog) -> None:
    """The event that could not be read is `Counted` now."""
    dropped = [each for each in log.unread if each.error is None]
    for each in log.unread:
        if each.error is not None:
            about = {name: getattr(each, name) for name in StoredEvent.__struct_fields__}
            log.events.append(RecordedEvent(**about, data=Counted(by=13)))
    log.events.sort(key=lambda event: event.position)
    log.unread = dropped


async def test_a_rebuilt_index_has_every_event_too(log: MemoryLog, indexed: Database) -> None:
    index = indexing()
    log.add("a", Counted(by=1))
    log.add_unread("counter", "a", "Painted", UnknownType("no Painted here"))
    log.add_unread("counter", "a", "LookedAt")
    log.add("a", Counted(by=1))

    assert await Rebuild(log, indexed, index, batch=2).run() == 4  # type: ignore[arg-type]
    assert await positions(indexed, index) == [1, 2, 3, 4]

    with pytest.raises(PoisonEvent, match="before Painted"):
        await Rebuild(log, indexed, counting("first")).run()  # type: ignore[arg-type]
    assert await Rebuild(log, indexed, repaired()).run() == 4  # type: ignore[arg-type]
    assert shown(await parked_events(indexed)) == [(2, "a", False, 1), (4, "a", True, 0)]


async def test_reactions_are_to_what_was_read(log: MemoryLog, indexed: Database) -> None:
    reacted: list[int] = []
    read = counting("first")

    @read.reacts
    async def notified(event: Event, recorded: RecordedEvent) -> None:
        reacted.append(recorded.position)

    async with following(worker_of(log, indexed, read)) as worker:
        await until(lambda: worker.progress["first"].state == "live")
        log.add_unread("counter", "a", "LookedAt")
        await log.add_live("a", Counted(by=1))
        await until(lambda: reacted)
    assert reacted == [2]
