"""PostgreSQL by asyncpg: a database that several machines can share.

Tested with PostgreSQL 15. Unlike SQLite, it cannot store a NUL character in a text: U+FFFD is
written instead, so that no event can stop a projection by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError

from eventstore.errors import ConfigurationError
from eventstore.projections.database.backends.base import Backend, run_to_end, without_password
from eventstore.projections.database.backends.postgresql_connection import (
    is_starting,
    no_answer,
    on_error,
    open_connection,
)

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

DRIVERS = {"postgres", "postgresql", "postgresql+asyncpg"}

READERS = 3
"""How many transactions read at a time, besides those of users."""

LOCK_SECONDS = 2.0
"""How long PostgreSQL itself waits for the lock of another before it reports that."""

KEEPALIVE = (
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
)
"""If the machine of a client dies, its locks are released within a minute, and not in hours."""

_WRITER = "; ".join((f"SET lock_timeout = {round(LOCK_SECONDS * 1000)}", *KEEPALIVE)) + ";"
_READER = (
    "SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read';"
)

_MAX_NAME = 63
"""The maximal length of an identifier; PostgreSQL silently truncates a longer one."""


_FIRST = """SELECT set_config('search_path', concat_ws(', ', '"{}"',
    nullif(current_setting('search_path'), '')), false);"""
_OWN_SCHEMAS = text(
    "SELECT nspname FROM pg_namespace WHERE nspname = :name OR starts_with(nspname, :parts)"
)


_KNOWN = "definitions"


class Postgresql(Backend):
    """A read-model database on a PostgreSQL server; see `Backend`.

    The URL may be whatever libpq understands, `sslmode` and the like included. `schema` is the one
    of a shadow of `live`, and the server's default for others. In a shadow, each of the `schemas`
    that tables are declared in is replaced by one of its own, in every statement; all else, such
    as an extension's types, is found where the live database finds it. Raises
    `ConfigurationError` if asyncpg is not installed.
    """

    path = None
    errors: tuple[type[Exception], ...] = (DBAPIError,)

    def __init__(
        self,
        url: URL,
        schema: str = "",
        live: Postgresql | None = None,
        schemas: Iterable[str] = (),
    ) -> None:
        try:
            import asyncpg  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                "read models in PostgreSQL need asyncpg: "
                "pip install 'jetstream-eventstore[postgres]'"
            ) from error
        self.url = url.set(drivername="postgresql")
        self.name = without_password(self.url) + (f", schema {schema}" if schema else "")
        self._schema = schema
        self._live = live or self
        self._definitions = 0
        self._schemas: dict[str | None, str] = {}
        if schema:
            self._schemas = {None: schema} | {each: _part(schema, each) for each in schemas}
        path = _FIRST.format(schema) if schema else ""
        self._writer = self._engine(_WRITER + path, pool_size=1, max_overflow=0)
        self.engine = self._engine(_READER + path)
        self._one_at_a_time = asyncio.Lock()
        self._reads = asyncio.Semaphore(READERS)

    async def open(self) -> None:
        """Connect, and create the schemas of a shadow."""
        async with self._writer.begin() as connection:
            for schema in self._schemas.values():
                await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))

    async def write(
        self,
        work: Callable[[Connection], T],
        committed: Callable[[T], None] | None = None,
        *,
        shadow: Self | None = None,  # a schema that the connection sees anyway
        whole_tables: bool = False,
    ) -> T:
        """Run `work` in one transaction, switching to the event loop at each statement."""
        await self._one_at_a_time.acquire()
        running = asyncio.create_task(self._transaction(work))
        return await run_to_end(running, lambda: False, committed)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, switching to the event loop at each statement."""
        async with self._reads, self.engine.connect() as connection:
            return await connection.run_sync(work)

    async def peek(self, work: Callable[[Connection], T]) -> T:
        """Read by a connection that is then closed."""
        try:
            async with self.engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await self.engine.dispose()

    async def read_beside(self, work: Callable[[Connection], T], shadow: Self) -> T:
        """Read by any connection: it sees the schemas of a shadow, too."""
        async with self.engine.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """Close all connections, after a transaction that is under way."""
        try:
            async with self._one_at_a_time:
                pass
        finally:
            await self._writer.dispose()
            await self.engine.dispose()

    async def size(self) -> int:
        """The size of the whole database, with everything else in it."""
        size = text("SELECT pg_database_size(current_database())")
        async with self.engine.connect() as connection:
            return int((await connection.execute(size)).scalar_one())

    def shadow(self, name: str, schemas: Iterable[str] = ()) -> Self:
        """Schemas in the same database."""
        schema = f"eventstore_rebuild_{name}"
        if len(schema) > _MAX_NAME:
            schema = f"{schema[: _MAX_NAME - 13]}_{_digest(name)}"
        return type(self)(self.url, schema, self, schemas)

    def schema_of(self, schema: str | None) -> str:
        """The schema of this shadow that replaces another."""
        return self._schemas[schema]

    async def exists(self) -> bool:
        """Whether the schema exists."""
        found = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)")
        async with self._live.engine.connect() as connection:
            return bool((await connection.execute(found, {"name": self._schema})).scalar_one())

    async def drop(self) -> None:
        """Drop the schemas with everything in them, whatever tables they were created for."""

        def drop(connection: Connection) -> None:
            own = {"name": self._schema, "parts": _part(self._schema)}
            for schema in connection.scalars(_OWN_SCHEMAS, own).all():
                connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))

        await self._live.write(drop)

    def forget_definitions(self) -> None:
        """Connect again: the old connections have statements prepared for what is gone."""
        self._definitions += 1

    def may_open_later(self, error: BaseException) -> bool:
        """A server that is starting up, or has too many clients at the moment."""
        return is_starting(error)

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            async with self._writer.begin() as connection:
                return await connection.run_sync(work)
        except TimeoutError as error:  # while the pool tried its connection
            raise no_answer() from error
        finally:
            self._one_at_a_time.release()

    def _engine(self, setup: str, **options: Any) -> AsyncEngine:
        from sqlalchemy.ext.asyncio import create_async_engine

        location = self.url.render_as_string(hide_password=False)

        async def connect() -> asyncpg.Connection:
            return await open_connection(location, setup)

        if self._schemas:
            options["execution_options"] = {"schema_translate_map": dict(self._schemas)}
        # A connection that was lost while idle is detected, and replaced, before it is used.
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_pre_ping=True,
            **options,
        )
        event.listen(engine.sync_engine, "handle_error", on_error)
        event.listen(engine.sync_engine, "connect", self._connected)
        event.listen(engine.sync_engine, "checkout", self._check_out)
        return engine

    def _connected(self, _connection: Any, record: Any) -> None:
        record.info[_KNOWN] = self._definitions

    def _check_out(self, _connection: Any, record: Any, _proxy: Any) -> None:
        """Have a connection from before the last change of definitions replaced by a new one."""
        if record.info[_KNOWN] != self._definitions:
            raise DisconnectionError("tables were recreated")


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:12]


def _part(schema: str, of: str = "") -> str:
    """The schema of a shadow for tables of another; without that, what all of them begin with."""
    return f"{schema[:30]}.{_digest(schema)}." + (_digest(of) if of else "")
