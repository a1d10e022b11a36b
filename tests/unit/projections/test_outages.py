"""A database that is locked, full, read-only or unreachable: projections wait, and catch up."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from eventstore.concurrency.backoff import Backoff
from eventstore.errors import ConfigurationError, DatabaseUnavailable
from eventstore.projections.database import database as module
from eventstore.projections.database.backends import sqlite
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import FileLocks
from eventstore.projections.health import DatabaseCheck, ProjectionsCheck
from eventstore.projections.worker.worker import ProjectionWorker
from tests.postgresql_server import PostgresqlServer
from tests.proxy import TcpProxy
from tests.unit.projections.counters import Counted, counting, make_tables, rows_of
from tests.unit.projections.following import BOUND, following, until, worker_of
from tests.unit.projections.memory import MemoryLog

Outage = Callable[[Database], contextlib.AbstractAsyncContextManager[None]]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry is reported immediately, and the database itself does not wait for locks."""
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(module, "BACKOFF", Backoff(0.02, 0.05))
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)


@contextlib.asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """Another process has an exclusive lock on the file."""
    with contextlib.closing(sqlite3.connect(str(database.path), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def full(database: Database) -> AsyncIterator[None]:
    """The file may not grow, and has no free page."""

    def fill(connection: Connection) -> None:
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    await database.transact(fill)
    yield
    await database.transact(lambda c: c.execute(text("PRAGMA max_page_count = 1000000")))


@contextlib.asynccontextmanager
async def read_only(database: Database) -> AsyncIterator[None]:
    """The file takes no changes, and no transaction that is for changes begins."""
    backend = database._backend
    assert isinstance(backend, sqlite.Sqlite)

    def set_to(value: str) -> None:
        with contextlib.closing(backend._writer.raw_connection()) as connection:
            connection.cursor().execute(f"PRAGMA query_only = {value}")

    await backend._in_thread(lambda: set_to("ON"))
    yield
    await backend._in_thread(lambda: set_to("OFF"))


@pytest.mark.parametrize("outage", [locked, full, read_only])
async def test_projections_wait_and_catch_up(
    log: MemoryLog, sqlite_read_model: Path, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = counting("first"), counting("second")
    many = [Counted(by=1)] * 1_000  # more than any page has room for
    async with Database(sqlite_read_model) as database:
        await make_tables(database)
        log.add("c", Counted(by=1))
        worker = worker_of(log, database, first, second)
        async with following(worker):
            await worker.wait(1, BOUND)
            async with outage(database):
                end = await log.add_live("c", *many)
                await until(lambda: worker.progress["first"].trouble)
                await assert_degraded(worker, database, end)
                assert len(await rows_of(database, first)) <= len(many), "reading goes on"
            await worker.wait(end, BOUND)
            assert {each.state for each in worker.progress.values()} == {"live"}
            assert (await DatabaseCheck(database)()).status == "healthy"
        assert len(await rows_of(database, first)) == len(many) + 1
    assert worker.failures == []
    warnings = [each for each in caplog.messages if "; retrying" in each]
    assert len(warnings) == 1, "once, and not at each try"
    assert "can be written again" in caplog.text


async def assert_degraded(worker: ProjectionWorker, database: Database, end: int) -> None:
    async def log_end() -> int:
        return end

    found = await DatabaseCheck(database)()
    assert (found.status, database.name in str(found.problem)) == ("degraded", True)
    found = await ProjectionsCheck(worker, log_end)()
    assert found.status == "degraded"
    assert f"first: retrying: read model {database.name}: " in str(found.problem)
    assert "; tried for" in str(found.problem)


def damage(database: Path) -> None:
    """Overwrite its files."""
    for suffix in ("", "-wal", "-shm"):
        path = Path(f"{database}{suffix}")
        with path.open("r+b") as file:
            file.write(b"\xee" * path.stat().st_size)


async def test_a_damaged_database_ends_nothing_else_and_is_unhealthy(
    log: MemoryLog, sqlite_read_model: Path
) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))
    async with Database(sqlite_read_model) as database:
        await make_tables(database)
        worker = worker_of(log, database, first)
        async with following(worker):
            await worker.wait(1, BOUND)
            damage(sqlite_read_model)
            await log.add_live("c", *[Counted(by=1)] * 1_000)
            await until(lambda: worker.progress["first"].trouble)

            found = await DatabaseCheck(database)()
            assert found.status == "unhealthy"
            assert "database" in str(found.problem)
    assert worker.failures == []


async def test_a_worker_that_begins_meanwhile_waits_too(
    log: MemoryLog, sqlite_read_model: Path
) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))
    async with Database(sqlite_read_model) as database:
        await make_tables(database)
        async with locked(database):
            await database.migrate()  # there is nothing to do, so nothing is waited for
            worker = worker_of(log, database, first)
            running = following(worker)
            await running.__aenter__()
            await worker.ready.wait()
            assert isinstance(worker.progress["first"].trouble, DatabaseUnavailable)
        await worker.wait(1, BOUND)
        await running.__aexit__(None, None, None)


async def test_it_can_be_stopped_while_it_retries(log: MemoryLog, sqlite_read_model: Path) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))
    async with Database(sqlite_read_model) as database:
        await make_tables(database)
        worker = worker_of(log, database, first)
        async with following(worker):
            await worker.wait(1, BOUND)
            async with locked(database):
                await log.add_live("c", Counted(by=1))
                await until(lambda: worker.progress["first"].trouble)
                worker.stop()
                await until(lambda: worker.progress["first"].trouble)


async def test_an_unreachable_server_is_waited_for(
    log: MemoryLog, postgresql_server: PostgresqlServer, postgresql_read_model: str
) -> None:
    first = counting("first")
    log.add("c", Counted(by=1))
    async with TcpProxy(postgresql_server.port) as proxy:
        at = f"127.0.0.1:{proxy.port}"
        location = postgresql_read_model.replace(f"127.0.0.1:{postgresql_server.port}", at)
        async with Database(location) as database:
            await make_tables(database)
            worker = worker_of(log, database, first)
            async with following(worker):
                await worker.wait(1, BOUND)
                with proxy.refusing():
                    proxy.cut()
                    end = await log.add_live("c", Counted(by=2))
                    await until(lambda: database.trouble)
                    assert (await DatabaseCheck(database)()).status == "degraded"
                await worker.wait(end, BOUND)
            assert await rows_of(database, first) == [(1, 1), (2, 2)]


async def test_a_full_disk_releases_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with FileLocks(str(tmp_path / "rows")) as locks:
        monkeypatch.setattr(os, "pwrite", no_space)
        assert await locks.acquire("a") is None
        assert await locks.acquired() == {"a"}


async def test_a_lock_file_that_cannot_be_created_is_retried(
    log: MemoryLog, sqlite_read_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby retries; a worker that starts raises it."""
    calls: list[str] = []
    first = counting("first")
    log.add("c", Counted(by=1))
    take = FileLocks.acquire

    async def failing(self: FileLocks, name: str) -> str | None:
        calls.append(name)
        if len(calls) == 1:
            return "another"
        if len(calls) < 4:
            raise ConfigurationError("the read model cannot be locked: no space left")
        return await take(self, name)

    monkeypatch.setattr(FileLocks, "acquire", failing)
    async with Database(sqlite_read_model) as database:
        await make_tables(database)
        async with following(worker := worker_of(log, database, first)):
            await worker.wait(1, BOUND)
