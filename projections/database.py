"""The read-model database: opened by path or URL, one writer in its own thread, many readers."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from eventstore.errors import ConfigurationError, ProjectionError
from projections import schema

__all__ = ["Database", "DatabaseUnavailable", "is_transient"]

T = TypeVar("T")

BUSY_SECONDS = 2.0
"""How long SQLite itself waits for another writer before it says "locked"."""

OPEN_PATIENCE = 10.0
MIGRATION_PATIENCE = 30.0
FIRST_DELAY = 0.02
LONGEST_DELAY = 1.0

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:")
_SQLITE_DRIVERS = {"sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"}

# WAL lets readers read while the writer writes. Without a sync at each commit a power failure may
# take the last transactions away, but always whole ones: rows and checkpoint go together, and the
# log still has the events.
_WRITER_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
_READER_PRAGMAS = ("query_only=ON",)

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_TRANSIENT = {*_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}


def is_transient(error: BaseException) -> bool:
    """Whether the database may answer otherwise when asked again: locked, full, unreachable."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return _code(error) in _TRANSIENT


def _is_locked(error: BaseException) -> bool:
    return _code(error) in _LOCKED


def _code(error: BaseException) -> int:
    """SQLite's plain result code, which its extended ones keep in their lowest byte."""
    return int(getattr(_cause(error), "sqlite_errorcode", 0)) & 0xFF


def _cause(error: BaseException) -> BaseException:
    """The driver's error inside of SQLAlchemy's."""
    return getattr(error, "orig", None) or error


class DatabaseUnavailable(ProjectionError):
    """The read-model database stayed locked, full or away for as long as was waited."""

    code = "database_unavailable"
    retryable = True


class Database:
    """A read-model database, to be used with `async with`.

    `location` is a path (`~` and relative ones are understood) or an SQLAlchemy URL; missing
    directories are made on opening. `transact` writes: one transaction at a time, in one thread.
    `engine` reads: an asynchronous engine that cannot write, and each of whose transactions sees
    one unchanging state.

    Writing does not go through the asynchronous engine, because that changes threads several
    times for each statement: 4,000 statements a second against 30,000 (measured), and catching up
    is nothing but statements.

    Raises `ConfigurationError`, naming the location without its password, for one that is not
    understood or cannot be opened; `DatabaseUnavailable` for one that others keep locked.
    """

    def __init__(self, location: str | Path) -> None:
        self.url = _parse(location)
        self.name = self.url.render_as_string(hide_password=True)
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}}
        self._writer = create_engine(
            self.url.set(drivername="sqlite+pysqlite"), pool_size=1, max_overflow=0, **options
        )
        self.engine: AsyncEngine = create_async_engine(
            self.url.set(drivername="sqlite+aiosqlite"), **options
        )
        _prepare(self._writer, "BEGIN IMMEDIATE", _WRITER_PRAGMAS)
        _prepare(self.engine.sync_engine, "BEGIN", _READER_PRAGMAS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-model")

    async def __aenter__(self) -> Self:
        try:
            Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True)
            # The first to open a new database locks it for a moment, without a say for others.
            await self._patiently(self._touch, OPEN_PATIENCE, _is_locked)
        except (OSError, DBAPIError, sqlite3.Error) as error:
            await self._close()
            raise ConfigurationError(
                f"cannot use {self.name} as read model: {_cause(error)}"
            ) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def migrate(self) -> None:
        """Bring the schema to the newest revision, in one transaction.

        Raises `MigrationError` where the database is newer than this code, or a step fails; the
        database is then as it was. Several processes may do this at once.
        """
        await self.transact(schema.upgrade, patience=MIGRATION_PATIENCE)

    async def check_schema(self) -> None:
        """Raise `MigrationError` unless the schema is at the newest revision."""
        async with self.engine.connect() as connection:
            await connection.run_sync(schema.check)

    async def transact(
        self,
        work: Callable[[Connection], T],
        *,
        patience: float = 0.0,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Run `work` in one write transaction and commit; an exception from it rolls back.

        `work` runs in the database's thread and must not touch the event loop. A database that is
        locked, full or away is asked again for `patience` seconds, so `work` may run several
        times, of which one counts. A cancelled call that has begun is brought to its end first:
        either all of it is committed, or nothing. `committed` is called in the event loop with the
        result of what was committed, even where the caller was cancelled meanwhile.

        Raises `DatabaseUnavailable`, and whatever else `work` or SQLAlchemy raise.
        """

        def transaction() -> T:
            with self._writer.begin() as connection:
                return work(connection)

        return await self._patiently(transaction, patience, is_transient, committed)

    async def _patiently(
        self,
        work: Callable[[], T],
        patience: float,
        may_pass: Callable[[BaseException], bool],
        done: Callable[[T], None] | None = None,
    ) -> T:
        delays = _Delays(patience)
        while True:
            try:
                return await self._in_thread(work, done)
            except (DBAPIError, sqlite3.Error) as error:
                if not may_pass(error):
                    raise
                delay = delays.after(error, self.name)
            await asyncio.sleep(delay)

    async def _in_thread(self, work: Callable[[], T], done: Callable[[T], None] | None) -> T:
        submitted = self._thread.submit(work)
        running = asyncio.wrap_future(submitted)
        if done is not None:
            running.add_done_callback(partial(_call_with_result, done))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not submitted.cancel():
                await asyncio.wait([running])
            raise

    def _touch(self) -> None:
        with self._writer.connect():
            pass  # connecting reads the file's head, which is what is to be tried

    async def _close(self) -> None:
        closing = self._thread.submit(self._writer.dispose)
        self._thread.shutdown(wait=False)
        try:
            await asyncio.shield(asyncio.wrap_future(closing))
        finally:
            await self.engine.dispose()


def _call_with_result(done: Callable[[T], None], ended: asyncio.Future[T]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        done(ended.result())


class _Delays:
    """The growing pauses between tries, and their end."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._end = time.monotonic() + patience
        self._next = FIRST_DELAY

    def after(self, error: Exception, name: str) -> float:
        """Seconds to wait; raises `DatabaseUnavailable` where the patience is at its end."""
        delay = self._next * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
        if time.monotonic() + delay > self._end:
            raise DatabaseUnavailable(
                f"read model {name}: {_cause(error)}; tried for {self._patience:g} s"
            ) from error
        self._next = min(2 * self._next, LONGEST_DELAY)
        return delay


def _parse(location: str | Path) -> URL:
    text = str(location)
    is_url = isinstance(location, str) and _SCHEME.match(text)
    path = _database_of(text) if is_url else text
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise ConfigurationError(
            f"read model {text!r} is not a file; readers and the writer need to share one"
        )
    return URL.create("sqlite", database=str(Path(path).expanduser()))


def _database_of(text: str) -> str:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "the read model's location is neither a path nor a URL; write ./name for a path that "
            "has a colon"
        ) from error
    shown = url.render_as_string(hide_password=True)
    if url.drivername not in _SQLITE_DRIVERS:
        raise ConfigurationError(
            f"read model {shown!r}: {url.drivername} is not supported; use sqlite:///path"
        )
    if url.host or url.query:
        raise ConfigurationError(f"read model {shown!r}: only sqlite:///path is understood")
    return url.database or ""


def _prepare(engine: Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    """Set up each new connection, and begin transactions where SQLAlchemy means them to begin.

    Left to itself, Python's driver begins them only before the first change, so that reads and
    schema changes stay outside.
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
        connection.exec_driver_sql(begin)
