from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from eventstore.errors import (
    CorruptLog,
    DatabaseUnavailable,
    PoisonEvent,
    ProjectionError,
    ProjectionFailed,
    ProjectionFenced,
    WaitTimeout,
)
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import sqlite as sqlite_module
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.worker.worker import ProjectionWorker
from tests.unit.projections.counters import (
    Counted,
    Noted,
    codec,
    counting,
    make_tables,
    moved,
    noting,
    position_in,
    rows_of,
)
from tests.unit.projections.memory import MemoryLog, time_of

BOUND = 45.0
TOO_LATE = {
    "sqlite": [
        "CREATE TRIGGER late AFTER UPDATE ON eventstore_projection"
        " BEGIN SELECT RAISE(ABORT, 'too late'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'too late'; END$$",
        "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON eventstore_projection "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()",
    ],
}
"""Triggers that refuse to move a checkpoint."""


class Poison(Exception):
    pass


def poisoned(event: Counted) -> None:
    if event.by == 13:
        raise Poison("no thirteens here")


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(codec)


async def with_tables(database: Database) -> Database:
    for name in ("first", "second", "third"):
        counting(name)
    await make_tables(database)
    return database


@pytest.fixture
async def tables(database: Database) -> Database:
    return await with_tables(database)


@pytest.fixture
async def sqlite_tables(sqlite_database: Database) -> Database:
    return await with_tables(sqlite_database)


@contextlib.asynccontextmanager
async def running(
    worker: ProjectionWorker, ends_with: type[ProjectionError] | None = None
) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run())
    yield
    worker.stop()
    with pytest.raises(ends_with) if ends_with else contextlib.nullcontext():
        await task


def worker_of(
    log: MemoryLog, database: Database, *projections: Projection, **options: Any
) -> ProjectionWorker:
    return ProjectionWorker(log, database, projections, **options)  # type: ignore[arg-type]


async def test_it_catches_up_and_is_then_live(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    end = log.add("c", *(Counted(by=n) for n in range(5)))
    worker = worker_of(log, tables, first, batch=2)

    progress = worker.progress["first"]
    states = [progress.state]
    async with running(worker):
        await worker.wait(end, BOUND)
        await worker.wait(await log.add_live("c", Counted(by=7)), BOUND)
        states.append(progress.state)

    assert await rows_of(tables, first) == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 7)]
    assert await position_in(tables, first) == 6
    assert states == ["catching_up", "live"]
    assert (worker.position, worker.pending, progress.applied) == (6, 0, 6)
    assert worker.failures == []


async def test_an_empty_log_is_caught_up(log: MemoryLog, tables: Database) -> None:
    live = asyncio.Event()
    worker = worker_of(log, tables, counting("first"), on_progress=lambda *_: live.set())

    async with running(worker):
        await asyncio.wait_for(live.wait(), BOUND)
        assert worker.progress["first"].state == "live"
        assert worker.pending == 0


async def test_one_reader_serves_all_from_the_lowest_checkpoint(
    log: MemoryLog, tables: Database
) -> None:
    first, second = counting("first"), counting("second")
    log.add("c", Counted(by=1), Counted(by=2))
    async with running(ahead := worker_of(log, tables, first)):
        await ahead.wait(2, BOUND)
    log.add("c", Counted(by=3))

    async with running(both := worker_of(log, tables, first, second, skip_unknown=True)):
        await both.wait(3, BOUND)

    assert await rows_of(tables, first) == await rows_of(tables, second)
    assert both.progress["first"].applied == 1
    assert both.progress["second"].applied == 3
    assert log.readers == [
        {"after": 0, "live": True, "skip_unknown": False},
        {"after": 0, "live": True, "skip_unknown": True},
    ]


async def test_a_restart_resumes_exactly(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    for end in (3, 4, 9):
        while log.end < end:
            log.add("c", Counted(by=log.end))
        async with running(worker := worker_of(log, tables, first, batch=2)):
            await worker.wait(end, BOUND)

    assert [each["after"] for each in log.readers] == [0, 3, 4]
    assert await rows_of(tables, first) == [(n + 1, n) for n in range(9)]


async def test_the_checkpoint_passes_what_nobody_wants(log: MemoryLog, tables: Database) -> None:
    first, second = counting("first"), noting("second")
    end = log.add("c", *[Counted(by=1)] * 5)

    async with running(worker := worker_of(log, tables, first, second, batch=2)):
        await worker.wait(end, BOUND)

    assert await position_in(tables, second) == 5
    assert worker.progress["second"].applied == 0


async def test_the_checkpoint_passes_what_the_reader_skipped(
    log: MemoryLog, tables: Database
) -> None:
    first = counting("first")
    log.add("c", Counted(by=1), Counted(by=2))
    log.before_page = lambda page: page.events.clear()

    async with running(worker := worker_of(log, tables, first)):
        await worker.wait(2, BOUND)

    assert await position_in(tables, first) == 2
    assert await rows_of(tables, first) == []


async def test_nothing_is_written_for_nothing(log: MemoryLog, sqlite_tables: Database) -> None:
    log.add("c", Counted(by=1))
    async with running(worker := worker_of(log, sqlite_tables, counting("first"))):
        await worker.wait(1, BOUND)

    async with sqlite_tables.engine.connect() as connection:
        version = text("PRAGMA data_version")
        before = (await connection.execute(version)).scalar_one()
        await connection.rollback()
        live = asyncio.Event()
        first = counting("first")
        again = worker_of(log, sqlite_tables, first, on_progress=lambda *_: live.set())
        async with running(again):
            await asyncio.wait_for(live.wait(), BOUND)
        after = (await connection.execute(version)).scalar_one()

    assert before == after


async def test_progress_is_reported_page_by_page(log: MemoryLog, tables: Database) -> None:
    pages: list[tuple[int, int]] = []
    log.add("c", *[Counted(by=1)] * 5)
    worker = worker_of(
        log, tables, counting("first"), batch=2, on_progress=lambda *page: pages.append(page)
    )

    async with running(worker):
        await worker.wait(5, BOUND)

    assert pages == [(2, 3), (4, 1), (5, 0)]


async def test_a_poison_event_stops_its_projection_only(log: MemoryLog, tables: Database) -> None:
    first, second = counting("first", fails=poisoned), counting("second")
    log.add("c", Counted(by=1), Counted(by=2), Counted(by=13), Counted(by=4))
    worker = worker_of(log, tables, first, second)

    async with running(worker, ends_with=PoisonEvent):
        await worker.wait(4, BOUND, projection="second")
        await worker.wait(await log.add_live("c", Counted(by=5)), BOUND, projection="second")
        assert worker.progress["second"].state == "live"

    assert await rows_of(tables, first) == [(1, 1), (2, 2)]
    assert await position_in(tables, first) == 2
    assert await rows_of(tables, second) == [(1, 1), (2, 2), (3, 13), (4, 4), (5, 5)]
    failed = worker.progress["first"]
    assert (failed.state, failed.position, failed.applied) == ("failed", 2, 2)
    assert worker.failures == [failed.error]
    assert worker.position == 2


async def test_a_failure_names_everything(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=1), Counted(by=13))
    worker = worker_of(log, tables, counting("first", fails=poisoned))

    with pytest.raises(ProjectionFailed) as stopped:
        await worker.run()

    error, event = stopped.value, log.events[1]
    assert str(error) == (
        f"projection first stopped before Counted {event.id} at position 2: "
        "Poison: no thirteens here"
    )
    assert isinstance(error, PoisonEvent)
    assert isinstance(error.__cause__, Poison)
    assert (error.projection, error.event_type) == ("first", "Counted")
    assert (error.event_id, error.position) == (event.id, 2)


async def test_a_failed_statement_is_reported_with_the_databases_message(
    log: MemoryLog, tables: Database
) -> None:
    log.add("c", Counted(by=1))
    await tables.transact(lambda c: c.execute(text("INSERT INTO first VALUES (1, 'c', 1)")))

    with pytest.raises(PoisonEvent) as stopped:
        await worker_of(log, tables, counting("first")).run()

    words = {
        "sqlite": "UNIQUE constraint failed: first.position",
        "postgresql": 'duplicate key value violates unique constraint "first_pkey"',
    }
    assert f"IntegrityError: {words[tables.url.drivername]}" in str(stopped.value)


async def test_a_failed_projection_goes_on_once_it_can(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=1), Counted(by=13), Counted(by=3))
    with pytest.raises(PoisonEvent):
        await worker_of(log, tables, counting("first", fails=poisoned)).run()

    repaired = counting("first")
    async with running(worker := worker_of(log, tables, repaired)):
        await worker.wait(3, BOUND)

    assert await rows_of(tables, repaired) == [(1, 1), (2, 13), (3, 3)]


async def test_a_first_event_may_be_poison(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=13))
    first = counting("first", fails=poisoned)

    with pytest.raises(PoisonEvent):
        await worker_of(log, tables, first).run()

    assert await position_in(tables, first) == 0


async def test_it_ends_when_all_have_failed(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=1), Counted(by=13))
    first, second = counting("first", fails=poisoned), counting("second", fails=poisoned)

    with pytest.raises(ProjectionError, match="2 projections stopped: projection first") as ended:
        await worker_of(log, tables, first, second).run()

    group = ended.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [type(each) for each in group.exceptions] == [PoisonEvent, PoisonEvent]
    assert await rows_of(tables, first) == await rows_of(tables, second) == [(1, 1)]


async def test_what_fails_at_the_commit_is_a_failure_too(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=1))
    statements = TOO_LATE[tables.url.drivername]
    await tables.transact(lambda c: [c.execute(text(each)) for each in statements])

    with pytest.raises(ProjectionFailed, match=r"projection first before position 1: .*too late"):
        await worker_of(log, tables, counting("first")).run()

    assert await rows_of(tables, counting("first")) == []


async def test_if_another_worker_moves_a_checkpoint_it_is_fenced(
    log: MemoryLog, tables: Database
) -> None:
    first, second = counting("first"), counting("second")
    worker = worker_of(log, tables, first, second)

    async with running(worker, ends_with=ProjectionFenced):
        await asyncio.wait_for(worker.ready.wait(), BOUND)
        await tables.transact(lambda c: moved(c, first, 0, 1, time_of(1)))
        await log.add_live("c", Counted(by=1), Counted(by=2))
        await worker.wait(2, BOUND, projection="second")
        with pytest.raises(ProjectionFenced, match="another worker moved the checkpoint"):
            await worker.wait(2, BOUND)

    assert await rows_of(tables, first) == []
    assert await rows_of(tables, second) == [(1, 1), (2, 2)]
    known = await tables.transact(lambda c: checkpoint.read(c, "first"))
    assert known is not None
    assert (known.position, known.error) == (1, None)


async def test_being_fenced_right_before_a_poison_event(
    log: MemoryLog, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page fails twice, together and alone; then another worker is faster with its rest."""
    log.add("c", Counted(by=1), Counted(by=2), Counted(by=13))
    first = counting("first", fails=poisoned)
    real, calls = tables.transact, iter(["claim", "together", "alone", "before the poison"])

    async def transact(work: Any, **options: Any) -> Any:
        if next(calls) == "before the poison":
            await real(lambda c: moved(c, first, 0, 1, time_of(1)))
        return await real(work, **options)

    monkeypatch.setattr(tables, "transact", transact)
    with pytest.raises(ProjectionFenced):
        await worker_of(log, tables, first).run()


async def test_rows_of_another_version_stop_it_immediately(
    log: MemoryLog, tables: Database
) -> None:
    log.add("c", Counted(by=1))
    async with running(worker := worker_of(log, tables, counting("first"))):
        await worker.wait(1, BOUND)

    with pytest.raises(ProjectionError, match="version 2, but its rows were made by version 1"):
        await worker_of(log, tables, counting("second"), counting("first", version=2)).run()

    assert await position_in(tables, counting("second")) is None


async def test_a_log_that_cannot_be_read_stops_it(log: MemoryLog, tables: Database) -> None:
    def broken(_page: object) -> None:
        raise CorruptLog("a page is torn out")

    log.add("c", Counted(by=1))
    log.before_page = broken

    with pytest.raises(CorruptLog, match="torn out"):
        await worker_of(log, tables, counting("first")).run()


async def test_a_mistake_in_the_callback_is_not_hidden(log: MemoryLog, tables: Database) -> None:
    def mistaken(*_page: int) -> None:
        raise LookupError("a mistake")

    with pytest.raises(LookupError, match="a mistake"):
        await worker_of(log, tables, counting("first"), on_progress=mistaken).run()


async def test_stopped_before_it_began_it_ends(log: MemoryLog, tables: Database) -> None:
    worker = worker_of(log, tables, counting("first"))
    worker.stop()

    await asyncio.wait_for(worker.run(), BOUND)


async def test_cancelled_in_a_page_it_leaves_nothing_half_done(
    log: MemoryLog, tables: Database
) -> None:
    loop = asyncio.get_running_loop()
    task: asyncio.Task[None]

    def cancelled_meanwhile(event: Counted) -> None:
        if event.by == 2:
            loop.call_soon_threadsafe(task.cancel)

    first = counting("first", fails=cancelled_meanwhile)
    log.add("c", *(Counted(by=n) for n in range(5)))
    worker = worker_of(log, tables, first)
    waiting = asyncio.create_task(worker.wait(5, BOUND))
    task = asyncio.create_task(worker.run())

    with pytest.raises(asyncio.CancelledError):
        await task

    await waiting
    assert worker.position == 5
    assert await position_in(tables, first) == 5
    assert len(await rows_of(tables, first)) == 5


async def test_a_locked_database_delays_and_no_more(
    log: MemoryLog, sqlite_tables: Database
) -> None:
    first = counting("first")
    other = sqlite3.connect(str(sqlite_tables.url.database), isolation_level=None)
    worker = worker_of(log, sqlite_tables, first)
    with contextlib.closing(other):
        async with running(worker):
            await worker.wait(0, BOUND)
            other.execute("BEGIN IMMEDIATE")
            end = await log.add_live("c", Counted(by=1))
            with pytest.raises(WaitTimeout):
                await worker.wait(end, 0.1)
            other.rollback()
            await worker.wait(end, BOUND)

    assert await rows_of(sqlite_tables, first) == [(1, 1)]


async def test_a_database_that_stays_locked_stops_it(
    log: MemoryLog, sqlite_tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.01)
    log.add("c", Counted(by=1))
    first, second = counting("first"), counting("second")
    locks = asyncio.Event()
    async with Database(str(sqlite_tables.url.database)) as database:
        other = sqlite3.connect(str(sqlite_tables.url.database), isolation_level=None)
        with contextlib.closing(other):

            def lock(_page: object) -> None:
                other.execute("BEGIN IMMEDIATE")
                locks.set()

            log.before_page = lock
            with pytest.raises(DatabaseUnavailable, match="database is locked"):
                await worker_of(log, database, first, second, retry_timeout=0.1).run()

    assert locks.is_set()
    assert await position_in(sqlite_tables, first) == 0


async def test_a_database_that_fails_between_is_no_poison(
    log: MemoryLog, sqlite_tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One projection has a poison event, and then the database fails while the other is written."""
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def away(_event: Counted) -> None:
        raise broken

    log.add("c", Counted(by=13))
    first, second = counting("first", fails=away), counting("second", fails=poisoned)

    worker = worker_of(log, sqlite_tables, second, first, retry_timeout=0.0)
    with pytest.raises(DatabaseUnavailable, match="disk I/O error"):
        await worker.run()

    assert worker.progress["first"].error is None


async def test_waiting_ends_with_the_time(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=1))
    async with running(worker := worker_of(log, tables, counting("first"))):
        await worker.wait(1, BOUND)
        with pytest.raises(WaitTimeout, match=r"is at position 1, not at 2, after 0\.01 s") as late:
            await worker.wait(2, 0.01)

    error = late.value
    assert isinstance(error, TimeoutError)
    assert (error.position, error.reached, error.seconds, error.retryable) == (2, 1, 0.01, True)


async def test_waiting_for_a_failed_projection_raises_its_failure(
    log: MemoryLog, tables: Database
) -> None:
    log.add("c", Counted(by=1), Counted(by=13))
    worker = worker_of(log, tables, counting("first", fails=poisoned), counting("second"))

    async with running(worker, ends_with=PoisonEvent):
        await worker.wait(2, BOUND, projection="second")
        await worker.wait(1, BOUND)
        with pytest.raises(PoisonEvent):
            await worker.wait(2, BOUND)


async def test_a_failure_does_not_grow_with_its_waiters(log: MemoryLog, tables: Database) -> None:
    log.add("c", Counted(by=13))
    worker = worker_of(log, tables, counting("first", fails=poisoned), counting("second"))
    async with running(worker, ends_with=PoisonEvent):
        with pytest.raises(PoisonEvent):
            await worker.wait(1, BOUND, projection="first")
        (failure,) = worker.failures
        before = traceback.extract_tb(failure.__traceback__)
        with pytest.raises(PoisonEvent, match="position 1") as raised:
            await worker.wait(1, BOUND, projection="first")
        assert traceback.extract_tb(failure.__traceback__) == before
    assert raised.value.__cause__ is failure
    assert vars(raised.value) == vars(failure)


async def test_a_failure_is_raised_while_others_are_still_behind(
    log: MemoryLog, tables: Database
) -> None:
    log.add("c", Counted(by=13))
    worker = worker_of(log, tables, counting("first"), counting("second", fails=poisoned))

    async with running(worker, ends_with=PoisonEvent):
        await worker.wait(1, BOUND, projection="first")
        with pytest.raises(PoisonEvent):
            await worker.wait(1_000, BOUND)


async def test_waiting_for_an_unknown_projection(log: MemoryLog, tables: Database) -> None:
    worker = worker_of(log, tables, counting("first"))

    with pytest.raises(ProjectionError, match="no projection 'secnd' in this worker; it has first"):
        await worker.wait(1, projection="secnd")


async def test_what_was_waited_for_can_be_read(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    async with running(worker := worker_of(log, tables, first)):
        for n in range(20):
            await worker.wait(await log.add_live("c", Counted(by=n)), BOUND)
            assert (await rows_of(tables, first))[-1] == (n + 1, n)


async def test_many_may_wait(log: MemoryLog, tables: Database) -> None:
    worker = worker_of(log, tables, counting("first"), noting("second"), batch=3)
    async with running(worker):
        waits = [asyncio.create_task(worker.wait(n, BOUND)) for n in range(50)]
        log.add("c", *[Counted(by=1)] * 25)
        await log.add_live("c", *[Noted(text="n")] * 25)
        await asyncio.gather(*waits)

    assert worker.progress["second"].applied == 25


def test_projections_are_independent(log: MemoryLog, tables: Database) -> None:
    first = counting("first")
    with pytest.raises(ProjectionError, match="projection first is in this worker twice"):
        worker_of(log, tables, first, first)
    with pytest.raises(ProjectionError, match="projections first and other both write table first"):
        worker_of(log, tables, first, Projection("other", tables=first.tables))
    with pytest.raises(ProjectionError, match="at least one"):
        worker_of(log, tables)
