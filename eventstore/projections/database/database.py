"""The read-model database: opened by path or URL, with one writer, many readers, and retries.

What differs between databases is in `eventstore.projections.database.backends`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import URL, Connection, MetaData, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from eventstore.concurrency.backoff import Backoff, Retries
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    MigrationError,
    ProjectionError,
    SchemaBusy,
)
from eventstore.messages.subjects import check_name
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database.backends import Backend, backend_at, cause_of, is_transient
from eventstore.projections.database.catalog import are_there, create
from eventstore.projections.database.library import LIBRARY
from eventstore.projections.database.schema import Migrations, Revisions
from eventstore.telemetry import NO_TELEMETRY, Telemetry

if TYPE_CHECKING:  # who opens none loads no asynchronous engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

OPEN_TIMEOUT = 10.0
MIGRATION_TIMEOUT = 30.0
BACKOFF = Backoff(0.02, 1.0)

REPORT_SECONDS = 1.0
"""Retries are reported after this many seconds."""

_logger = make_log_records_safe(logging.getLogger(__name__))

OnWait = Callable[[DatabaseUnavailable], None]
"""Called with the reason at each try after a transaction has been retried for a second."""


class Database(Resource):
    """A read-model database, to be used with `async with`.

    `location` is a path (`~` and relative ones are understood) or an SQLAlchemy URL; missing
    directories are created on opening. `transact` writes, one transaction at a time. `engine`
    reads: an asynchronous engine that cannot write, each of whose transactions sees a consistent
    snapshot. `name` is for messages, without its password; `path` is its file, or None.
    `trouble` is why a transaction has been retried for more than a second now, or None.

    `migrations` are those of the application's own tables, if it has any; without them, its tables
    are left alone.

    Raises `ConfigurationError`, naming the location without its password, for one that is not
    supported or cannot be opened; `DatabaseUnavailable` for one that stays locked.
    """

    def __init__(
        self,
        location: str | Path | Backend,
        *,
        migrations: Migrations | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._backend = location if isinstance(location, Backend) else backend_at(location)
        self._migrations = (LIBRARY,) if migrations is None else (LIBRARY, migrations)
        self._telemetry = telemetry
        self._live: Database | None = None
        self._waiting: set[Retries] = set()
        self.url: URL = self._backend.url
        self.name: str = self._backend.name
        self.path: Path | None = self._backend.path
        self.trouble: DatabaseUnavailable | None = None
        self.engine: AsyncEngine = self._backend.engine

    async def _enter(self, stack: AsyncExitStack) -> None:
        backend = self._backend
        stack.push_async_callback(backend.close)
        try:
            await self._retry(backend.open, OPEN_TIMEOUT, backend.may_open_later)
        except backend.errors as error:
            raise self._unusable(error) from error

    async def migrate(self) -> None:
        """Upgrade the library's tables to the newest revision, unless they are there.

        The application's follow, if it has migrations, in the same transaction. If others lock the
        database, that is retried for half a minute. Several processes may do this concurrently.
        Raises `DatabaseUnavailable`, and `MigrationError` if the database is newer than this code
        or a step fails; the database is then unchanged.
        """
        if not await self._is_migrated():
            await self._retry(
                lambda: self._backend.write(self._upgrade, whole_tables=True),
                MIGRATION_TIMEOUT,
                lambda error: isinstance(error, SchemaBusy) or is_transient(error),
            )

    async def check_schema(self) -> None:
        """Raise `MigrationError` unless all that `migrate` upgrades is at the newest revision.

        Raises `DatabaseUnavailable`, too.
        """
        async with self.reading() as connection:
            await connection.run_sync(self._check)

    async def revisions(self) -> tuple[Revisions, Revisions | None]:
        """The revisions of the library's tables, and of the application's, if it has migrations.

        The database need not be open, and is not changed. Raises `MigrationError` for a schema
        that this code does not know, `ConfigurationError` for a database that cannot be read.
        """
        if self.path is not None and not self.path.exists():
            library, *others = [Revisions(None, each.newest()) for each in self._migrations]
        else:
            try:
                library, *others = await self._backend.peek(self._revisions)
            except self._backend.errors as error:
                raise self._unusable(error) from error
        return library, others[0] if others else None

    async def size(self) -> int:
        """The size of the database, in bytes.

        Raises `DatabaseUnavailable` if it is a file that was deleted or replaced since it was
        opened.
        """
        return await self._backend.size()

    def unavailable(self, error: BaseException, problem: object) -> DatabaseUnavailable:
        """The error that says what is wrong with this database."""
        trouble = DatabaseUnavailable(f"read model {self.name}: {problem}")
        trouble.is_damage = self._backend.is_damaged(error)
        return trouble

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read by; raises `DatabaseUnavailable` if a retry may succeed."""
        with self._readable():
            async with self.engine.connect() as connection:
                yield connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, in one transaction, and so on one snapshot.

        It may run in another thread and must not touch the event loop. A few run at a time, and
        others wait for their turn. A cancelled call that has begun goes on, and its result is
        dropped. Raises `DatabaseUnavailable` if a retry may succeed, and whatever else `work` or
        SQLAlchemy raise.
        """
        with self._readable():
            return await self._backend.read(work)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if not is_transient(error):
                raise
            raise self.unavailable(error, error.orig) from error

    async def transact(
        self,
        work: Callable[[Connection], T],
        *,
        retry_timeout: float = 0.0,
        committed: Callable[[T], None] | None = None,
        is_committed: Callable[[Connection], bool] | None = None,
        on_wait: OnWait | None = None,
    ) -> T:
        """Run `work` in one write transaction and commit; an exception from it rolls back.

        `work` may run in another thread and must not touch the event loop. If the database is
        locked, full or unreachable, it is retried for `retry_timeout` seconds (`math.inf` for no
        limit), so `work` may run several times, of which one counts. `on_wait` is called once
        that takes more than a second. A cancelled call that has begun ends first: either all of it
        is committed, or nothing. `committed` is called in the event loop with the result of what
        was committed, even if the caller was cancelled meanwhile.

        If a connection is lost during a commit, its outcome is unknown. `work` then runs once
        more, and must be idempotent; or `is_committed` is asked first, in the same transaction,
        whether the changes are there, and if so the result is that of the last run.

        Raises `DatabaseUnavailable`, and whatever else `work` or SQLAlchemy raise.
        """
        if is_committed is not None:
            work = _unless_committed(work, is_committed)
        return await self._write(work, retry_timeout, committed, None, on_wait)

    async def peek(self, work: Callable[[Connection], T]) -> T:
        """Read from a database that need not be open, without creating or changing anything.

        Raises SQLAlchemy's errors if it does not exist.
        """
        return await self._backend.peek(work)

    def shadow(self, name: str, schemas: Iterable[str] = ()) -> Database:
        """A second, private database beside this one, for tables that are to replace live ones.

        It is created when it is opened, and stays until `drop`. `name` is like that of a
        projection; the same name is the same shadow. `schemas` are those that tables are declared
        in, if they are. Raises `InvalidSubject` for another name, and `ProjectionError` if this
        database is a shadow itself.
        """
        if self._live is not None:
            raise ProjectionError(f"{self.name} is a shadow itself")
        backend = self._backend.shadow(check_name("shadow", name), schemas)
        shadow = Database(backend, telemetry=self._telemetry)
        shadow._live = self
        return shadow

    async def exists(self) -> bool:
        """Whether a database made by `shadow` has been created; it need not be open."""
        return await self._shadow_backend().exists()

    async def drop(self) -> None:
        """Delete a database made by `shadow`, if it exists; it must not be used any more."""
        await self._retry(self._shadow_backend().drop, MIGRATION_TIMEOUT, is_transient)

    async def create_tables(self, tables: Iterable[Table]) -> None:
        """Create the tables that are missing, with their indexes; writes nothing if none is."""
        wanted = list(tables)
        if await self.read(lambda connection: are_there(connection, wanted)):
            return
        await self.transact(
            lambda connection: create(connection, wanted), retry_timeout=MIGRATION_TIMEOUT
        )

    def forget_definitions(self) -> None:
        """Use new connections from now on, for tables may have been recreated.

        Connections of other processes are not affected: PostgreSQL may refuse a statement of each.
        """
        self._backend.forget_definitions()

    async def take_over(
        self,
        shadow: Database,
        work: Callable[[Connection, Callable[[Table], Table]], T],
        *,
        retry_timeout: float = 0.0,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Run `work` in one write transaction that can read the tables of `shadow`, too.

        `shadow` was made by `shadow` of this database. `work` is given the connection and a
        function from a table to the same table in the shadow, to be selected from:

            connection.execute(delete(flake))
            connection.execute(insert(flake).from_select(flake.c.keys(), select(shadow(flake))))

        Readers see all of it or nothing. All else is as in `transact`. Raises `ProjectionError`
        for a shadow that does not exist or is not this database's.
        """
        in_shadow = await self._in_shadow(shadow)
        return await self._write(
            lambda connection: work(connection, in_shadow),
            retry_timeout,
            committed,
            shadow._backend,
        )

    async def compare(
        self,
        shadow: Database,
        work: Callable[[Connection, Callable[[Table], Table]], T],
        *,
        retry_timeout: float = 0.0,
    ) -> T:
        """Run `work`, which only reads, as `take_over` does, and without waiting for writers."""
        in_shadow = await self._in_shadow(shadow)

        async def once() -> T:
            return await self._backend.read_beside(
                lambda connection: work(connection, in_shadow), shadow._backend
            )

        return await self._retry(once, retry_timeout, is_transient)

    async def _in_shadow(self, shadow: Database) -> Callable[[Table], Table]:
        if shadow._live is not self:
            raise ProjectionError(f"{shadow.name} is not a shadow of {self.name}")
        if not await shadow.exists():
            raise ProjectionError(f"shadow {shadow.name} does not exist")

        def in_shadow(table: Table) -> Table:
            schema_name = shadow._backend.schema_of(table.schema)
            return table.to_metadata(MetaData(), schema=schema_name)

        return in_shadow

    async def _is_migrated(self) -> bool:
        """Whether there is nothing to do, as far as can be seen without a lock."""
        try:
            await self.check_schema()
        except (DatabaseUnavailable, MigrationError, SQLAlchemyError, OSError):
            return False
        return True

    def _check(self, connection: Connection) -> None:
        for migrations in self._migrations:
            migrations.check(connection)

    def _upgrade(self, connection: Connection) -> None:
        for migrations in self._migrations:
            migrations.upgrade(connection)

    def _revisions(self, connection: Connection) -> list[Revisions]:
        return [migrations.revisions(connection) for migrations in self._migrations]

    async def _write(
        self,
        work: Callable[[Connection], T],
        retry_timeout: float,
        committed: Callable[[T], None] | None,
        shadow: Backend | None,
        on_wait: OnWait | None = None,
    ) -> T:
        return await self._retry(
            lambda: self._backend.write(work, committed, shadow=shadow),
            retry_timeout,
            is_transient,
            on_wait,
        )

    async def _retry(
        self,
        once: Callable[[], Awaitable[T]],
        retry_timeout: float,
        may_pass: Callable[[BaseException], bool],
        on_wait: OnWait | None = None,
    ) -> T:
        retries = Retries(BACKOFF, retry_timeout)
        try:
            while True:
                try:
                    done = await once()
                except Exception as error:
                    if not may_pass(error):
                        raise
                    delay = retries.next_delay()
                    if delay is None:
                        raise self._out_of_time(error, retry_timeout) from error
                    if retries.waited >= REPORT_SECONDS:
                        self._waiting.add(retries)
                        self._report(self._out_of_time(error, round(retries.waited)), on_wait)
                else:
                    self._succeeded(retries)
                    return done
                await asyncio.sleep(delay)
                self._telemetry.count("retries", operation="database")
        finally:
            self._waiting.discard(retries)

    def _out_of_time(self, error: Exception, seconds: float) -> DatabaseUnavailable:
        return self.unavailable(error, f"{cause_of(error)}; tried for {seconds:g} s")

    def _report(self, trouble: DatabaseUnavailable, on_wait: OnWait | None) -> None:
        if self.trouble is None:
            _logger.warning("%s; retrying", trouble)
        self.trouble = trouble
        if on_wait is not None:
            on_wait(trouble)

    def _succeeded(self, retries: Retries) -> None:
        """The trouble is over, unless others wait, who write more."""
        if self.trouble is not None and self._waiting <= {retries}:
            _logger.warning("read model %s can be written again", self.name)
            self.trouble = None

    def _unusable(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(f"cannot use {self.name} as read model: {cause_of(error)}")

    def _shadow_backend(self) -> Backend:
        if self._live is None:
            raise ProjectionError(f"{self.name} is not a shadow")
        return self._backend


def _unless_committed(
    work: Callable[[Connection], T], is_committed: Callable[[Connection], bool]
) -> Callable[[Connection], T]:
    ended: list[T] = []

    def run(connection: Connection) -> T:
        if not (ended and is_committed(connection)):
            ended.append(work(connection))
        return ended[-1]

    return run
