from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from eventstore.errors import ConfigurationError, DatabaseUnavailable
from eventstore.projections.database import database as module
from eventstore.projections.database.backends import is_transient, sqlite
from eventstore.projections.database.database import Database
from eventstore.service.metrics import Metrics


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.02)


async def with_a_table(location: str | Path) -> Database:
    """A database with one table, closed."""
    async with Database(location) as database:
        await database.transact(lambda c: c.execute(text("CREATE TABLE n (n INTEGER PRIMARY KEY)")))
    return Database(location)


@pytest.fixture
async def empty(new_read_model: str) -> Database:
    """One of each kind."""
    return await with_a_table(new_read_model)


@pytest.fixture
async def empty_file(tmp_path: Path) -> Database:
    """SQLite."""
    return await with_a_table(tmp_path / "some.sqlite")


def add(number: int, connection: Connection) -> None:
    connection.execute(text("INSERT INTO n VALUES (:n)"), {"n": number})


async def numbers(database: Database) -> list[int]:
    async with database.engine.connect() as connection:
        return list((await connection.execute(text("SELECT n FROM n ORDER BY n"))).scalars())


@contextmanager
def locked(database: Database) -> Iterator[sqlite3.Connection]:
    """Another process's write transaction on the same file."""
    connection = sqlite3.connect(str(database.url.database), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "location",
    [
        "{0}/a/b/x.sqlite",
        "sqlite:///{0}/a/b/x.sqlite",
        "sqlite+aiosqlite:///{0}/a/b/x.sqlite",
        "sqlite+pysqlite:///{0}/a/b/x.sqlite",
        "./a/b/x.sqlite",
        "a/b/x.sqlite",
        "sqlite:///a/b/x.sqlite",
        "~/a/b/x.sqlite",
        "sqlite:///~/a/b/x.sqlite",
    ],
)
async def test_it_opens_by_path_and_by_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    async with Database(location.format(tmp_path)) as database:
        await database.transact(lambda c: c.execute(text("CREATE TABLE n (n INTEGER)")))

    assert (tmp_path / "a/b/x.sqlite").is_file()


async def test_a_path_object_may_have_any_name(tmp_path: Path) -> None:
    async with Database(tmp_path / "sqlite:odd 100%?#.db"):
        pass

    assert (tmp_path / "sqlite:odd 100%?#.db").is_file()


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("", "'' is not a file"),
        (":memory:", "is not a file"),
        ("sqlite://", "is not a file"),
        ("sqlite:///:memory:", "is not a file"),
        ("sqlite:///file:x?mode=ro&uri=true", "only sqlite:///path is understood"),
        ("sqlite://host/x", "only sqlite:///path is understood"),
        ("sqlite:///file:x", "is not a file"),
        (
            "oracle://joe:secret@db/read",
            "oracle is not supported; use sqlite:///path or postgresql://",
        ),
        ("postgresql+psycopg://joe:secret@db/read", "postgresql.psycopg is not supported"),
        ("oracle://joe@db/read?password=secret", "oracle is not supported"),
        ("mysql+aiomysql://joe:secret@db/read", "mysql.aiomysql is not supported"),
        ("sqlite+pysqlcipher:///x", "sqlite.pysqlcipher is not supported"),
        ("sqlite:x", "neither a path nor a URL"),
        ("db://joe:secret@host:port/x", "neither a path nor a URL"),
    ],
)
def test_a_location_that_is_not_understood_is_refused(location: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        Database(location)

    assert "secret" not in str(refused.value)


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader, this is no database. " * 100)

    with pytest.raises(ConfigurationError, match=r"letter\.txt as read model: file is not a data"):
        async with Database(tmp_path / "letter.txt"):
            pass
    with pytest.raises(ConfigurationError, match="unable to open database file"):
        async with Database(tmp_path):
            pass
    with pytest.raises(ConfigurationError, match="as read model"):
        async with Database(tmp_path / "letter.txt" / "below"):
            pass


async def test_what_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear reader, this is no database. " * 100)
    before = letter.read_bytes()

    with pytest.raises(ConfigurationError):
        async with Database(letter):
            pass

    assert letter.read_bytes() == before


async def test_readers_do_not_wait_for_the_writer(empty_file: Database) -> None:
    async with empty_file as database:
        await database.transact(lambda c: add(1, c))
        with locked(database):
            assert await numbers(database) == [1]


async def test_a_reader_sees_one_state(empty: Database) -> None:
    async with empty as database, database.engine.connect() as connection:
        count = text("SELECT count(*) FROM n")
        before = (await connection.execute(count)).scalar_one()
        await database.transact(lambda c: add(1, c))
        same = (await connection.execute(count)).scalar_one()
        await connection.rollback()
        after = (await connection.execute(count)).scalar_one()

    assert (before, same, after) == (0, 0, 1)


async def test_a_cancelled_read_does_not_hold_up_what_is_copied_to_the_file(
    empty_file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not until the next garbage collection, minutes later: the WAL would fill the disk."""
    executed, execute = asyncio.Event(), aiosqlite.Cursor.execute

    async def never_ending(cursor: aiosqlite.Cursor, sql: str, *values: Any) -> aiosqlite.Cursor:
        await execute(cursor, sql, *values)
        if sql.startswith("SELECT"):
            executed.set()
            await asyncio.Event().wait()
        return cursor

    async def read(database: Database) -> BaseException | None:
        try:
            await numbers(database)
        except asyncio.CancelledError as cancelled:
            return cancelled  # whose frames refer to the cursor
        return None

    monkeypatch.setattr(aiosqlite.Cursor, "execute", never_ending)
    async with empty_file as database:
        await database.transact(lambda c: add(1, c))
        reading = asyncio.create_task(read(database))
        await executed.wait()
        reading.cancel()
        cancelled = await reading
        await database.transact(lambda c: add(2, c))

        with closing(sqlite3.connect(str(database.url.database))) as other:
            is_held_up, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert cancelled is not None
    assert not is_held_up


async def test_the_wal_gives_back_the_space_that_it_took_once(empty_file: Database) -> None:
    sizes = []

    def insert(times: int, connection: Connection) -> None:
        for _ in range(times):
            connection.execute(text("INSERT INTO large VALUES (zeroblob(1 << 20))"))
        sizes.append(Path(f"{empty_file.url.database}-wal").stat().st_size >> 20)

    async with empty_file as database:
        await database.transact(lambda c: c.execute(text("CREATE TABLE large (a)")))
        for times in (100, 1, 1):
            await database.transact(partial(insert, times))
        sizes.append(Path(f"{database.url.database}-wal").stat().st_size >> 20)  # noqa: ASYNC240

    assert max(sizes) >= 100
    assert sizes[-1] <= 64


async def test_a_reader_cannot_write(empty: Database) -> None:
    async with empty as database, database.engine.connect() as connection:
        with pytest.raises(DBAPIError, match=r"readonly|read-only"):
            await connection.execute(text("INSERT INTO n VALUES (1)"))


async def test_a_failed_transaction_leaves_nothing(empty: Database) -> None:
    def half(connection: Connection) -> None:
        add(1, connection)
        connection.execute(text("CREATE TABLE more (n INTEGER)"))
        raise LookupError

    def twice(connection: Connection) -> None:
        add(2, connection)
        add(2, connection)

    async with empty as database:
        with pytest.raises(LookupError):
            await database.transact(half)
        with pytest.raises(IntegrityError):
            await database.transact(twice)

        assert await numbers(database) == []
        async with database.engine.connect() as connection:
            with pytest.raises(DBAPIError, match=r"no such table|does not exist"):
                await connection.execute(text("SELECT * FROM more"))


async def test_foreign_keys_are_held(empty: Database) -> None:
    def orphan(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE child (n INTEGER REFERENCES n)"))
        connection.execute(text("INSERT INTO child VALUES (7)"))

    async with empty as database:
        with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
            await database.transact(orphan)


async def test_a_cancelled_transaction_ends_first(empty: Database) -> None:
    loop = asyncio.get_running_loop()
    task: asyncio.Task[None]
    reported: list[None] = []

    def cancelled_meanwhile(connection: Connection) -> None:
        add(1, connection)
        loop.call_soon_threadsafe(task.cancel)
        add(2, connection)

    async with empty as database:
        task = asyncio.create_task(
            database.transact(cancelled_meanwhile, committed=reported.append)
        )
        with pytest.raises(asyncio.CancelledError):
            await task

        assert reported == [None]
        assert await numbers(database) == [1, 2]
        await database.transact(lambda c: add(3, c))


async def test_one_that_fails_after_it_was_cancelled_leaves_nothing(empty: Database) -> None:
    loop = asyncio.get_running_loop()
    task: asyncio.Task[None]
    reported: list[None] = []

    def cancelled_meanwhile(connection: Connection) -> None:
        add(1, connection)
        loop.call_soon_threadsafe(task.cancel)
        add(1, connection)

    async with empty as database:
        task = asyncio.create_task(
            database.transact(cancelled_meanwhile, committed=reported.append)
        )
        with pytest.raises(asyncio.CancelledError):
            await task

        assert reported == []
        assert await numbers(database) == []
        await database.transact(lambda c: add(3, c))


async def test_only_commits_are_reported(empty: Database) -> None:
    reported: list[object] = []

    def broken(connection: Connection) -> str:
        add(1, connection)
        raise LookupError

    async with empty as database:
        with pytest.raises(LookupError):
            await database.transact(broken, committed=reported.append)
        await database.transact(lambda _c: "well", committed=reported.append)

    assert reported == ["well"]


async def test_a_transaction_cancelled_before_it_began_does_nothing(empty_file: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(10)
        add(1, connection)

    async with empty_file as database:
        first = asyncio.create_task(database.transact(slow))
        await asyncio.to_thread(begun.wait, 10)
        second = asyncio.create_task(database.transact(lambda c: add(2, c)))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        await first

        assert await numbers(database) == [1]


async def test_a_locked_database_is_retried_and_the_retries_are_counted(
    empty_file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    real_sleep = asyncio.sleep
    metrics = Metrics()

    async with Database(empty_file.name, telemetry=metrics) as database:
        with locked(database) as other:

            async def released_meanwhile(delay: float) -> None:
                tries.append(delay)
                if len(tries) == 3:
                    other.rollback()
                await real_sleep(0)

            monkeypatch.setattr(
                "eventstore.projections.database.database.asyncio.sleep", released_meanwhile
            )
            await database.transact(lambda c: add(1, c), retry_timeout=60)

        assert await numbers(database) == [1]
    assert len(tries) == 3
    assert tries[2] > tries[0]
    assert b'eventstore_retries_total{operation="database"} 3.0' in metrics.render()


async def test_retries_end_after_the_timeout(empty_file: Database) -> None:
    async with empty_file as database:
        with (
            locked(database),
            pytest.raises(DatabaseUnavailable, match=r"locked; tried for 0\.1 s"),
        ):
            await database.transact(lambda c: add(1, c), retry_timeout=0.1)

        assert await numbers(database) == []


async def test_a_database_that_others_open_too_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT", 0.05)
    database = Database(tmp_path / "new.sqlite")
    with locked(database), pytest.raises(DatabaseUnavailable, match="locked"):
        async with database:
            pass


async def test_opening_may_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT", 60)
    database = Database(tmp_path / "new.sqlite")
    with locked(database), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), database:
            pass


@pytest.mark.parametrize(
    ("code", "transient"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False),
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_ERROR, False),
    ],
)
def test_what_may_pass(code: int, transient: bool) -> None:
    error = sqlite3.OperationalError()
    error.sqlite_errorcode = code

    assert is_transient(error) is transient
    assert is_transient(DBAPIError("SELECT", {}, error)) is transient


def test_a_lost_connection_may_come_back() -> None:
    lost = DBAPIError("SELECT", {}, sqlite3.OperationalError(), connection_invalidated=True)

    assert is_transient(lost)
    assert not is_transient(ValueError())


def spills_to_files(connection: Connection) -> bool:
    """Whether SQLite keeps what it may have to restore, or sorts, in files instead of memory."""
    return bool(connection.exec_driver_sql("PRAGMA temp_store").scalar_one() == 1)


async def test_only_what_may_change_whole_tables_is_kept_in_files(empty_file: Database) -> None:
    async with empty_file as live, live.shadow("some") as shadow:
        assert not await live.transact(spills_to_files)
        assert await live.take_over(shadow, lambda connection, _: spills_to_files(connection))
        assert await live._backend.write(spills_to_files, whole_tables=True)
        assert not await live.transact(spills_to_files)
