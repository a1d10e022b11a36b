"""Locks: one worker owns a projection; others stand by or are refused, and take over."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from eventstore.errors import ConfigurationError, OwnedElsewhere, ProjectionFenced
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import FileLocks, locked, locks_of
from eventstore.projections.health import ProjectionsCheck
from eventstore.projections.projection import Projection
from tests.unit.projections.counters import Counted, counting, make_tables, rows_of
from tests.unit.projections.following import BOUND, checkpoint_of, following, until, worker_of
from tests.unit.projections.memory import MemoryLog, time_of


@pytest.fixture
async def tables(database: Database) -> Database:
    for name in ("first", "second"):
        counting(name)
    await make_tables(database)
    return database


async def test_a_lock_has_one_holder_who_is_named(database: Database) -> None:
    async with locks_of(database) as mine, locks_of(database) as theirs:
        assert await mine.acquire("a") is None
        assert await theirs.acquire("b") is None
        holder = await theirs.acquire("a")
        assert holder is not None
        assert holder.startswith(f"process {os.getpid()} on ")
        assert await mine.acquired() == {"a"}
        assert await theirs.acquired() == {"b"}

        await mine.close()
        assert await theirs.acquire("a") is None
        assert await theirs.acquired() == {"a", "b"}


async def test_a_lock_whose_file_was_deleted_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    async with FileLocks(str(path)) as mine, FileLocks(str(path)) as theirs:
        assert await mine.acquire("a") is None
        (path.parent / "rows.sqlite.locks" / "a").unlink()
        assert await theirs.acquire("a") is None

        assert await mine.acquired() == frozenset()
        assert await theirs.acquired() == {"a"}


async def test_a_lock_for_a_block(database: Database) -> None:
    async with locked(database, "a"):
        with pytest.raises(OwnedElsewhere, match=rf"a is owned by process {os.getpid()}") as other:
            async with locked(database, "a"):
                pass
        assert isinstance(other.value, ProjectionFenced)
        async with locked(database, "b"):
            pass
    async with locked(database, "a"):
        pass


async def test_what_cannot_be_locked_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    locks = FileLocks(str(tmp_path / "file" / "rows.sqlite"))
    with pytest.raises(ConfigurationError, match="cannot be locked"):
        await locks.acquire("a")


def hold_and_wait(path: str, ready: Connection) -> None:
    import asyncio  # in the other process

    async def hold() -> None:
        locks = FileLocks(path)
        ready.send(await locks.acquire("a"))
        ready.recv()

    asyncio.run(hold())


async def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    own, others = spawn.Pipe()
    process = spawn.Process(target=hold_and_wait, args=(str(tmp_path / "rows"), others))
    process.start()
    assert own.recv() is None
    async with FileLocks(str(tmp_path / "rows")) as locks:
        holder = await locks.acquire("a")
        assert holder is not None
        assert holder.startswith(f"process {process.pid} on ")
        process.kill()
        process.join(BOUND)
        assert await locks.acquire("a") is None


async def test_the_second_stands_by_follows_and_takes_over(
    log: MemoryLog, tables: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))

    async def log_end() -> int:
        return 1_000_000

    async with following(worker_of(log, tables, counting("first"))) as active:
        await active.wait(1, BOUND)
        async with following(worker_of(log, tables, first)) as standby:
            await standby.ready.wait()
            progress = standby.progress["first"]
            assert (progress.state, progress.position) == ("standby", 1)
            assert f"standing by for process {os.getpid()} on " in caplog.text
            assert (await ProjectionsCheck(standby, log_end)()).status == "healthy"

            await log.add_live("c", Counted(by=2))
            await standby.wait(2, BOUND)
            assert progress.applied == 0
            active.stop()
            await until(lambda: progress.state == "live")
            await standby.wait(await log.add_live("c", Counted(by=3)), BOUND)
            assert "took over first" in caplog.text

    assert await rows_of(tables, first) == [(1, 1), (2, 2), (3, 3)]
    assert progress.applied == 1


async def test_the_second_is_refused_if_it_is_not_to_wait(log: MemoryLog, tables: Database) -> None:
    async with following(worker_of(log, tables, counting("first"))) as active:
        await active.ready.wait()
        refused = worker_of(log, tables, counting("first"), counting("second"), if_taken="refuse")
        with pytest.raises(OwnedElsewhere, match=r"projection first is owned by process \d+ on"):
            await refused.run()

    async with following(worker_of(log, tables, counting("second"), if_taken="refuse")) as alone:
        await alone.wait(0, BOUND)


async def test_workers_with_different_projections_share_a_database(
    log: MemoryLog, tables: Database
) -> None:
    one = worker_of(log, tables, counting("first"), if_taken="refuse")
    other = worker_of(log, tables, counting("second"), if_taken="refuse")

    async with following(one), following(other):
        end = await log.add_live("c", Counted(by=1))
        await one.wait(end, BOUND)
        await other.wait(end, BOUND)

    assert await rows_of(tables, counting("first")) == await rows_of(tables, counting("second"))


async def test_one_that_lost_its_lock_acquires_it_and_continues(
    log: MemoryLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = counting("first")
    async with Database(tmp_path / "rows.sqlite") as database:
        await database.migrate()
        await make_tables(database)
        async with following(worker_of(log, database, first)) as worker:
            await worker.wait(await log.add_live("c", Counted(by=1)), BOUND)
            (tmp_path / "rows.sqlite.locks" / "projection-first").unlink()
            await until(lambda: "took over first" in caplog.text)
            await worker.wait(await log.add_live("c", Counted(by=2)), BOUND)

        assert await rows_of(database, first) == [(1, 1), (2, 2)]


async def test_a_failed_one_that_others_repaired_is_taken_over_whole(
    log: MemoryLog, tables: Database
) -> None:
    """A standby does not share the failure of the holder: it may take the event."""

    def broken(_event: Counted) -> None:
        raise LookupError("old code")

    old = counting("first", fails=broken)
    active = worker_of(log, tables, old, counting("second"))
    standby = worker_of(log, tables, counting("first"))
    async with following(active):
        await active.ready.wait()
        async with following(standby):
            await log.add_live("c", Counted(by=1))
            await until(lambda: active.progress["first"].state == "failed")
            assert standby.failures == []
            active.stop()
            await standby.wait(1, BOUND)

    assert await rows_of(tables, old) == [(1, 1)]


async def test_older_code_on_standby_leaves_rows_that_newer_code_has_made(
    log: MemoryLog, tables: Database
) -> None:
    async def rebuild(_projection: Projection) -> None:
        raise AssertionError("the rows would be of the older version again")

    end = log.add("c", Counted(by=1))
    newer = counting("first", version=2)
    both = counting("first"), counting("second")
    async with following(worker_of(log, tables, *both)) as owner:
        await owner.wait(end, BOUND)
        async with following(worker_of(log, tables, *both, rebuild=rebuild)) as standby:
            await standby.wait(end, BOUND)
            await tables.transact(lambda c: checkpoint.restart(c, newer, end, time_of(1)))
            await until(lambda: standby.progress["first"].trouble)
            owner.stop()
            await until(lambda: standby.progress["second"].state == "live")
            assert standby.progress["first"].state == "standby"

    assert (await checkpoint_of(tables, newer)).version == 2


async def test_the_holder_of_a_lock_can_be_read_without_acquiring_it(database: Database) -> None:
    async with locks_of(database) as mine, locks_of(database) as theirs:
        assert await theirs.holder("a") is None
        assert await mine.acquire("a") is None
        assert f"process {os.getpid()} on " in str(await theirs.holder("a"))
        assert await theirs.holder("b") is None
        await mine.close()
        assert await theirs.holder("a") is None
        assert await mine.acquire("a") is None


async def test_a_lock_that_somebody_only_looks_at_can_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "rows")
    async with FileLocks(path) as locks:
        assert await locks.acquire("a") is None
    looking = os.open(Path(f"{path}.locks", "a"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.close(looking)

    monkeypatch.setattr("eventstore.projections.database.locks.asyncio.sleep", sleep)
    async with FileLocks(path) as locks:
        assert await locks.acquire("a") is None
        assert len(pauses) == 3

        assert str(os.getpid()) in str(await FileLocks(path).acquire("a"))
    assert len(pauses) == 3
