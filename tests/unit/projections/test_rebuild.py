"""Rebuilds of a projection: old rows until the new ones are complete, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from eventstore.errors import OwnedElsewhere, PoisonEvent, ProjectionError
from eventstore.messages.events import RecordedEvent
from eventstore.projections.database import checkpoint
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import locked
from eventstore.projections.database.tables import checkpoints, parked_event
from eventstore.projections.projection import OnPoison, Projection, Statement
from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress, drop_shadow
from eventstore.projections.rebuild.shadow import Shadow, shadow_position
from eventstore.projections.rebuild.switch import reset
from eventstore.projections.worker.parked_events import parked_events
from tests.unit.projections.counters import Counted, codec, counting, make_tables, rows_of
from tests.unit.projections.memory import START, MemoryLog
from tests.unit.projections.test_worker import Poison, poisoned, running, worker_of

BOUND = 45.0


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(codec)
    made.add("c", *(Counted(by=number) for number in range(1, 11)))
    return made


@pytest.fixture
async def old(database: Database, log: MemoryLog) -> Database:
    """With rows by version 1 of the first ten events."""
    await make_tables(database)
    worker = worker_of(log, database, counting("first"))
    async with running(worker):
        await worker.wait(10, BOUND)
    return database


def negating(
    version: int = 2,
    fails: Callable[[Counted], object] = lambda _: None,
    on_poison: OnPoison = "stop",
) -> Projection:
    """The same projection, with rows that differ from those of the old version."""
    projection = counting("first")
    changed = Projection("first", version=version, tables=projection.tables, on_poison=on_poison)

    @changed.handles
    def counted(event: Counted, recorded: RecordedEvent) -> Statement:
        fails(event)
        rows = changed.tables[0]
        return insert(rows).values(position=recorded.position, counter="", by=-event.by)

    return changed


counting("first")
OLD = [(number, number) for number in range(1, 11)]
NEW = [(number, -number) for number in range(1, 11)]


def rebuild_of(
    log: MemoryLog, database: Database, projection: Projection, **options: Any
) -> Rebuild:
    return Rebuild(log, database, projection, **{"batch": 3, **options})  # type: ignore[arg-type]


async def known(database: Database, name: str = "first") -> Checkpoint:
    async with database.engine.connect() as connection:
        found = await connection.run_sync(checkpoint.read, name)
    assert found is not None
    return found


async def cancelled_at(position: int, log: MemoryLog, database: Database) -> None:
    """A rebuild that is cancelled at a position."""

    def reports(progress: RebuildProgress) -> None:
        if progress.position >= position:
            task.cancel()

    task = asyncio.create_task(rebuild_of(log, database, negating(), on_progress=reports).run())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_rows_and_the_checkpoint_are_those_of_the_new_version(
    old: Database, log: MemoryLog
) -> None:
    before = await known(old)
    reports: list[RebuildProgress] = []

    rebuild = rebuild_of(log, old, negating(), on_progress=reports.append)
    assert await rebuild.run() == 10

    assert await rows_of(old, negating()) == NEW
    after = await known(old)
    assert (after.version, after.position, after.epoch) == (2, 10, before.epoch + 1)
    assert await shadow_position(old, negating()) is None
    assert [(each.phase, each.position, each.pending) for each in reports] == [
        ("building", 3, 7),
        ("building", 6, 4),
        ("building", 9, 1),
        ("building", 10, 0),
        ("switching", 10, 0),
        ("done", 10, 0),
    ]
    assert (reports[-1].events, rebuild.switched, rebuild.started_at) == (10, True, 0)


async def test_what_was_never_used_is_built(database: Database, log: MemoryLog) -> None:
    await make_tables(database)

    assert await rebuild_of(log, database, negating()).run() == 10

    assert await rows_of(database, negating()) == NEW
    assert (await known(database)).epoch == 1


async def test_an_empty_log_leaves_empty_tables(old: Database) -> None:
    empty = MemoryLog(codec)
    with pytest.raises(ProjectionError, match="at position 10, which the log does not reach"):
        await rebuild_of(empty, old, negating(), retry_timeout=0.01).run()
    assert await rows_of(old, negating()) == OLD

    await old.transact(lambda c: c.execute(update(checkpoints).values(log="another")))
    assert await rebuild_of(empty, old, negating()).run() == 0
    assert (await known(old)).log == await empty.identity()
    assert await rows_of(old, negating()) == []


async def test_cancelled_it_leaves_the_old_rows_and_goes_on_later(
    old: Database, log: MemoryLog
) -> None:
    before = await known(old)
    await cancelled_at(6, log, old)

    assert await rows_of(old, negating()) == OLD
    assert await known(old) == before
    assert await shadow_position(old, negating()) in {6, 9}  # what has begun comes to its end

    rebuild = rebuild_of(log, old, negating())
    await rebuild.run()
    assert rebuild.started_at in {6, 9}
    assert log.readers[-1]["after"] == rebuild.started_at
    assert await rows_of(old, negating()) == NEW


async def test_a_shadow_that_was_left_can_be_dropped(old: Database, log: MemoryLog) -> None:
    await cancelled_at(6, log, old)

    assert await drop_shadow(old, negating())
    assert await shadow_position(old, negating()) is None
    assert not await drop_shadow(old, negating())


@pytest.mark.parametrize("differs", ["version", "log", "tables", "from scratch"])
async def test_a_shadow_that_does_not_fit_is_rebuilt_from_scratch(
    old: Database, log: MemoryLog, differs: str
) -> None:
    await cancelled_at(6, log, old)
    version = 3 if differs == "version" else 2
    if differs == "log":
        log.name = "another"
    if differs == "tables":
        async with old.shadow("first") as shadow:
            other = text("UPDATE eventstore_rebuild SET shape = 'other'")
            await shadow.transact(lambda c: c.execute(other))

    rebuild = rebuild_of(log, old, negating(version), from_scratch=differs == "from scratch")
    await rebuild.run()

    assert rebuild.started_at == 0
    assert await rows_of(old, negating()) == NEW
    assert (await known(old)).version == version


async def test_an_obsolete_shadow_is_not_used(
    old: Database, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Database, "drop", _fails)
        with pytest.raises(OSError, match="no time"):
            await rebuild_of(log, old, negating()).run()
    assert await rows_of(old, negating()) == NEW
    assert await shadow_position(old, negating()) == 10

    rebuild = rebuild_of(log, old, negating())
    await rebuild.run()
    assert rebuild.started_at == 0
    assert (await known(old)).epoch == 3


async def _fails(database: Database) -> None:
    if await database.exists():
        raise OSError("no time to drop it")


async def test_a_poison_event_stops_it_and_once_mended_it_goes_on(
    old: Database, log: MemoryLog
) -> None:
    log.add("c", Counted(by=13), Counted(by=14))

    with pytest.raises(PoisonEvent) as stopped:
        await rebuild_of(log, old, negating(fails=poisoned), batch=5).run()
    assert (stopped.value.position, type(stopped.value.__cause__)) == (11, Poison)
    assert await rows_of(old, negating()) == OLD
    assert (await known(old)).version == 1

    rebuild = rebuild_of(log, old, negating())
    assert await rebuild.run() == 12
    assert rebuild.started_at == 10
    assert await rows_of(old, negating()) == [*NEW, (11, -13), (12, -14)]


async def test_a_poison_event_is_parked_if_the_projection_parks(
    old: Database, log: MemoryLog
) -> None:
    log.add("c", Counted(by=13), Counted(by=14))
    log.add("d", Counted(by=15))
    parking_it = negating(fails=poisoned, on_poison="park")

    assert await rebuild_of(log, old, parking_it, batch=5).run() == 13

    assert await rows_of(old, negating()) == [*NEW, (13, -15)]
    parked = await parked_events(old, "first")
    assert [(each.position, each.tries, each.error) for each in parked] == [
        (11, 1, "Poison: no thirteens here"),
        (12, 0, None),
    ]


async def test_a_poison_event_that_comes_in_during_the_switch_is_met_before_it(
    old: Database, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce = Shadow.announce_switch

    async def announced(shadow: Shadow, epoch: int) -> None:
        if log.end == 10:
            await log.add_live("c", Counted(by=13))
        await asyncio.sleep(0.01)  # the reader has its turn
        await announce(shadow, epoch)

    monkeypatch.setattr(Shadow, "announce_switch", announced)
    with pytest.raises(PoisonEvent):
        await rebuild_of(log, old, negating(fails=poisoned)).run()

    assert await rows_of(old, negating()) == OLD
    assert await shadow_position(old, negating()) == 10


async def test_what_came_in_meanwhile_is_there_after_the_switch(
    old: Database, log: MemoryLog
) -> None:
    """A reader that has waited for a position never sees older rows."""
    switching = asyncio.Event()

    def reports(progress: RebuildProgress) -> None:
        if progress.phase == "switching" and not switching.is_set():
            switching.set()
            log.add("c", Counted(by=11))

    worker = worker_of(log, old, counting("first"))
    task = asyncio.create_task(worker.run())
    await worker.wait(10, BOUND)
    rebuilding = asyncio.create_task(rebuild_of(log, old, negating(), on_progress=reports).run())
    await switching.wait()
    await log.add_live("c", Counted(by=12))
    await worker.wait(12, BOUND)
    position = await asyncio.wait_for(rebuilding, BOUND)
    worker.stop()
    await task

    assert position == 12
    assert await rows_of(old, negating()) == [*NEW, (11, -11), (12, -12)]


async def test_two_rebuilds_of_one_projection_exclude_each_other(
    old: Database, log: MemoryLog
) -> None:
    async with locked(old, "rebuild-first"):
        with pytest.raises(OwnedElsewhere, match=r"rebuild-first .* process \d+"):
            await rebuild_of(log, old, negating()).run()
        with pytest.raises(OwnedElsewhere):
            await drop_shadow(old, negating())
    assert await rows_of(old, negating()) == OLD

    await rebuild_of(log, old, negating()).run()


async def test_parked_events_are_replaced_and_those_of_others_are_not(
    old: Database, log: MemoryLog
) -> None:
    def park(name: str, position: int) -> dict[str, Any]:
        return {
            "projection": name,
            "position": position,
            "aggregate": "counter",
            "aggregate_id": "c",
            "event_id": str(position),
            "event_type": "Counted",
            "tries": 1,
            "parked_at": START,
        }

    rows = [park("first", 3), park("second", 3)]
    await old.transact(lambda c: c.execute(insert(parked_event), rows))

    await rebuild_of(log, old, negating()).run()

    async with old.engine.connect() as connection:
        assert (await connection.scalars(select(parked_event.c.projection))).all() == ["second"]
    await old.transact(lambda c: c.execute(insert(parked_event), rows[:1]))
    await old.transact(lambda c: reset(c, negating()))
    async with old.engine.connect() as connection:
        assert (await connection.scalars(select(parked_event.c.projection))).all() == ["second"]
    assert await rows_of(old, negating()) == []
    assert ((await known(old)).position, (await known(old)).epoch) == (0, 3)


async def test_a_changed_version_is_rebuilt_automatically_and_logged(
    old: Database, log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventstore")

    await auto_rebuild(log, old, batch=3, interval=0)(negating())  # type: ignore[arg-type]

    assert await rows_of(old, negating()) == NEW
    assert caplog.messages == [
        "projection first: rebuilding 10 events for version 2; queries see the old rows until then",
        "projection first: rebuilding, 60 % of 10 events",
        "projection first: rebuilding, 90 % of 10 events",
        "projection first: rebuilding, 100 % of 10 events",
        "projection first: rebuilding, 100 % of 10 events",
        "projection first: rebuilt for version 2, at position 10",
    ]


async def test_what_somebody_else_rebuilds_is_waited_for(
    old: Database, log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    other = asyncio.Event()
    hold = asyncio.Event()

    async def hold_it() -> None:
        async with locked(old, "rebuild-first"):
            other.set()
            await hold.wait()

    holding = asyncio.create_task(hold_it())
    await other.wait()
    rebuild = auto_rebuild(log, old, pause=0.01)  # type: ignore[arg-type]

    async def wait() -> None:
        await rebuild(negating())

    waiting = asyncio.create_task(wait())
    for _ in range(1_000):  # until it has seen that somebody is at it
        await asyncio.sleep(0.001)
        if caplog.messages:
            break
    await old.transact(lambda c: c.execute(update(checkpoints).values(version=2)))
    await asyncio.wait_for(waiting, BOUND)
    hold.set()
    await holding

    assert await rows_of(old, negating()) == OLD
    assert [message.split()[-1] for message in caplog.messages] == ["retrying", "recovered"]
