"""SQLite: a file, written by a thread of its own, and read by some others.

Neither uses the asynchronous engine, which is for users: it switches threads several times for each
statement, 4,000 statements a second against 30,000 (measured). A thread runs a whole transaction.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from eventstore.config.private_files import ensure_private_directory, ensure_private_file
from eventstore.errors import ConfigurationError, DatabaseUnavailable
from eventstore.projections.database.backends.base import (
    Backend,
    cause_of,
    run_to_end,
    without_password,
)
from eventstore.projections.database.backends.reader_threads import ReaderThreads
from eventstore.projections.database.prepared import executed

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

DRIVERS = {"sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"}

READERS = 3
"""How many threads read; more would only compete for the interpreter."""

BUSY_SECONDS = 2.0
"""How long SQLite itself waits for another writer before it reports "locked"."""

# WAL lets readers read while the writer writes. Without a sync at each commit, a power failure may
# lose the last transactions, but only complete ones: rows and their checkpoint are lost together,
# and the log still has the events.
#
# In a savepoint, SQLite keeps each page as it was before a statement that may stop halfway, beyond
# 64 KiB in a temporary file: half the time of inserting what a query returns. There are as many as
# a transaction changes, so they stay in memory; what may sort a whole table has its own connection.
#
# A page of the audit index changes thousands of SQLite's pages, for its keys are random. A cache
# that holds them (16 MiB), and copying them to the file less often (at 32 MiB), halves what is
# written, and the pauses for it. Where a reader has delayed that, the space is given back later.
_WRITER_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "cache_size=-16384",
    "wal_autocheckpoint=8000",
    "journal_size_limit=67108864",
)
_READER_PRAGMAS = ("query_only=ON",)

_BEGIN_WRITING = "BEGIN IMMEDIATE"
_BEGIN_READING = "BEGIN"

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TRANSIENT = {
    *_LOCKED,
    *_DAMAGED,  # an operator has to act, while everything else goes on
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}
_GONE = sqlite3.SQLITE_READONLY_DBMOVED
"""The file was deleted or moved away: what is written to it is lost."""

_ATTACHED = "shadow"
"""The schema in which the live database sees a shadow during a switch."""

_FILES = ("", "-wal", "-shm", "-journal")
"""The suffixes of a database's files: its own, and those that SQLite creates beside it."""


class Sqlite(Backend):
    """A read-model database in a file; see `Backend`.

    Raises `ConfigurationError` for a URL that is not of a file.
    """

    errors: tuple[type[Exception], ...] = (OSError, DBAPIError, sqlite3.Error)
    path: Path

    def __init__(self, url: URL) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        self.path = Path(_file(url)).expanduser()
        self.url = URL.create("sqlite", database=str(self.path))
        self.name = str(self.path)
        self._identity: tuple[int, int] | None = None
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}}
        self._writer = create_engine(
            self.url.set(drivername="sqlite+pysqlite"), pool_size=1, max_overflow=0, **options
        )
        reading = {"connect_args": {**options["connect_args"], "factory": _CompletelyClosed}}
        self.engine: AsyncEngine = create_async_engine(
            self.url.set(drivername="sqlite+aiosqlite"), **reading
        )
        reader = create_engine(self._writer.url, pool_size=READERS, **options)
        _prepare(self._writer, _BEGIN_WRITING, _WRITER_PRAGMAS)
        _prepare(self.engine.sync_engine, _BEGIN_READING, _READER_PRAGMAS)
        _prepare(reader, _BEGIN_READING, _READER_PRAGMAS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-model")
        self._readers = ReaderThreads(reader, READERS)

    async def open(self) -> None:
        """Connect, which reads the file's header, and creates the file if it is missing."""
        ensure_private_directory(self.path.parent)
        await self._in_thread(self._touch)
        self._identity = self._identity or self._stat()[0]

    async def write(
        self,
        work: Callable[[Connection], T],
        committed: Callable[[T], None] | None = None,
        *,
        shadow: Self | None = None,
        whole_tables: bool = False,
    ) -> T:
        """Run `work` in one transaction in the database's thread."""

        def transaction() -> T:
            with self._writer.connect() as connection:
                if shadow is not None or whole_tables:
                    connection.detach()  # from the pool, so that it is closed and not reused
                    _execute(connection, "PRAGMA temp_store=FILE")
                if shadow is not None:
                    _attach(connection, shadow)
                with connection.begin():
                    return work(connection)

        return await self._in_thread(transaction, committed)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a thread that keeps its connection."""
        return await self._readers.run(work)

    async def peek(self, work: Callable[[Connection], T]) -> T:
        """Read by a connection that creates no file and changes none."""
        return await asyncio.to_thread(self._peek, work)

    async def read_beside(self, work: Callable[[Connection], T], shadow: Self) -> T:
        """Read as `peek` does, without waiting for a writer."""
        return await asyncio.to_thread(self._peek, work, shadow)

    async def close(self) -> None:
        """Close all connections, the writer's in its thread; a second time does nothing."""
        closing = self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        try:
            await asyncio.shield(asyncio.wrap_future(closing))
        finally:
            await self.engine.dispose()

    async def size(self) -> int:
        """The size of the file.

        SQLite continues to read and write a file that was deleted or replaced, and all of that is
        lost: here it is detected.
        """
        try:
            identity, size = await asyncio.to_thread(self._stat)
        except OSError as error:
            raise DatabaseUnavailable(
                f"read model {self.name} is gone: {os.strerror(error.errno or 0)}; start again"
            ) from error
        if identity != self._identity:
            raise DatabaseUnavailable(
                f"read model {self.name} was replaced by another file: start again"
            )
        return size

    def shadow(self, name: str, schemas: Iterable[str] = ()) -> Self:
        """Another file beside this one; its only schema is `main`, as this one's."""
        return type(self)(self.url.set(database=f"{self.path}.rebuild-{name}"))

    def schema_of(self, schema: str | None) -> str:
        """The name that a shadow is attached as."""
        return _ATTACHED

    async def exists(self) -> bool:
        """Whether the file is there."""
        return await asyncio.to_thread(self.path.exists)

    async def drop(self) -> None:
        """Delete the file, and what belongs to it."""
        await self.engine.dispose()
        await asyncio.to_thread(self._unlink)

    def may_open_later(self, error: BaseException) -> bool:
        """The first to open a new database locks it for a moment, in which others get an error."""
        return _code(error) in _LOCKED

    def is_damaged(self, error: BaseException) -> bool:
        """The file, or a part of it, is not a database."""
        return _code(error) in _DAMAGED

    async def _in_thread(self, work: Callable[[], T], done: Callable[[T], None] | None = None) -> T:
        submitted = self._thread.submit(work)
        return await run_to_end(asyncio.wrap_future(submitted), submitted.cancel, done)

    def _close(self) -> None:
        self._readers.close()
        self._writer.dispose()

    def _peek(self, work: Callable[[Connection], T], shadow: Self | None = None) -> T:
        read_only = f"{self.path.absolute().as_uri()}?mode=ro"
        engine = create_engine(
            "sqlite+pysqlite://",
            creator=lambda: sqlite3.connect(
                read_only, uri=True, timeout=BUSY_SECONDS, isolation_level=None
            ),
            poolclass=NullPool,
        )
        with engine.connect() as connection:
            if shadow is not None:
                _attach(connection, shadow)
            connection.exec_driver_sql(_BEGIN_READING)
            return work(connection)

    def _touch(self) -> None:
        ensure_private_file(self.path)  # the files that SQLite creates beside it get the same mode
        with self._writer.connect():
            pass

    def _stat(self) -> tuple[tuple[int, int], int]:
        found = self.path.stat()
        return (found.st_dev, found.st_ino), found.st_size

    def _unlink(self) -> None:
        for suffix in _FILES:
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


class _CompletelyClosed(sqlite3.Connection):
    """A connection that closes its cursors, too.

    SQLite closes one whose statement has more rows only when that is deleted, and with a cancelled
    read a garbage collection does that, minutes later. Until then what is written cannot be copied
    from the WAL, which grows.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors = WeakSet[sqlite3.Cursor]()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """Another cursor."""
        cursor = super().cursor(*arguments, **options)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """Close it, and all that has been made of it."""
        for cursor in list(self._cursors):
            cursor.close()
        super().close()


def is_transient(error: BaseException) -> bool:
    """Whether the file may be usable later: it is locked, full, damaged or unreachable."""
    return _code(error) in _TRANSIENT and _extended_code(error) != _GONE


def _code(error: BaseException) -> int:
    """SQLite's primary result code: the lowest byte of the extended one."""
    return _extended_code(error) & 0xFF


def _extended_code(error: BaseException) -> int:
    return int(getattr(cause_of(error), "sqlite_errorcode", 0))


def _file(url: URL) -> str:
    if url.host or url.query:
        raise ConfigurationError(
            f"read model {without_password(url)!r}: only sqlite:///path is understood"
        )
    path = url.database or ""
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise ConfigurationError(
            f"read model {path!r} is not a file; readers and the writer need to share one"
        )
    return path


def _attach(connection: Connection, shadow: Sqlite) -> None:
    _execute(connection, f"ATTACH DATABASE ? AS {_ATTACHED}", str(shadow.path))


def _execute(connection: Connection, statement: str, *values: str) -> None:
    """Execute a statement, bypassing SQLAlchemy, which would begin a transaction too early."""
    cursor = connection.connection.cursor()
    cursor.execute(statement, values)
    cursor.close()


def _prepare(engine: Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    """Set up each new connection, and begin transactions when SQLAlchemy means them to begin.

    By default, Python's driver begins them only before the first change, so that reads and
    schema changes are not in them.
    """

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        executed(connection, begin)
