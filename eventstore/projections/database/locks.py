"""Locks: of several workers, in whatever processes, only one owns a projection.

A lock lasts as long as its holder; when the holder dies, the operating system or the database
releases it immediately. There is no lease that could end too early or too late. In SQLite it is a
lock on a file beside the database, in PostgreSQL an advisory lock of a connection.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import socket
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.resource import Resource
from eventstore.config.private_files import ensure_private_directory, open_private
from eventstore.errors import ConfigurationError, OwnedElsewhere
from eventstore.messages.envelope import utc_now
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.projections.database.backends.postgresql import KEEPALIVE
from eventstore.projections.database.database import Database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_LOOKS = 20
_LOOK = Backoff(0.005, 0.005, jitter=1.0)
"""How often, and after which delays, a file is retried that others lock only to read its holder."""


class Locks(Resource):
    """The locks of one holder in one database; an async context manager that releases them all.

    Not to be used by several tasks concurrently.
    """

    @abstractmethod
    async def acquire(self, name: str) -> str | None:
        """Acquire a lock, without waiting; None if that succeeded, otherwise its holder."""

    @abstractmethod
    async def holder(self, name: str) -> str | None:
        """The holder of a lock, without acquiring it; None if nobody has it."""

    @abstractmethod
    async def acquired(self) -> frozenset[str]:
        """The names of all locks that were acquired and not lost since."""

    @abstractmethod
    async def close(self) -> None:
        """Release all of them."""

    async def _enter(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.close)


def locks_of(database: Database) -> Locks:
    """The locks of a database, for a new holder."""
    if database.url.get_backend_name() == "sqlite":
        return FileLocks(str(database.url.database))
    return AdvisoryLocks(database.engine)


@asynccontextmanager
async def locked(database: Database, name: str) -> AsyncIterator[None]:
    """Hold a lock inside the block; raises `OwnedElsewhere` if somebody else has it."""
    async with locks_of(database) as locks:
        holder = await locks.acquire(name)
        if holder is not None:
            raise OwnedElsewhere(name, holder)
        yield


class _Holder(msgspec.Struct):
    """The holder of a lock, as written into its file."""

    pid: int
    host: str
    since: datetime

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class _LockedFile(NamedTuple):
    """A file that is locked through a descriptor; `path` as text, for it is asked about often."""

    path: str
    descriptor: int

    @property
    def is_in_place(self) -> bool:
        """Whether the file of that path is still the one that is locked."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False
        except OSError:  # unknown for now, and the lock is held all the same
            return True


class FileLocks(Locks):
    """Locks on files in the directory `{path}.locks`, which are not deleted on release."""

    def __init__(self, path: str) -> None:
        self._directory = Path(f"{path}.locks")
        self._acquired: dict[str, _LockedFile] = {}

    async def acquire(self, name: str) -> str | None:
        """Acquire it; raises `ConfigurationError` if the file cannot be created."""
        path = self._directory / name
        try:
            ensure_private_directory(self._directory)
            descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ConfigurationError(f"the read model cannot be locked: {error}") from error
        locked = _LockedFile(str(path), descriptor)
        try:
            if not await _lock(descriptor):
                return _read_holder(descriptor)
            _write_holder(descriptor)
            self._acquired[name] = locked
        except OSError as error:
            raise ConfigurationError(f"the read model cannot be locked: {path}: {error}") from error
        finally:
            if self._acquired.get(name) is not locked:
                os.close(descriptor)
        return None

    async def holder(self, name: str) -> str | None:
        """Its holder; None if there is no file."""
        try:
            descriptor = os.open(self._directory / name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return None if _try(descriptor, fcntl.LOCK_SH) else _read_holder(descriptor)
        finally:
            os.close(descriptor)

    async def acquired(self) -> frozenset[str]:
        """Those whose file is still the one that was locked; others are released."""
        for name, locked in list(self._acquired.items()):
            if not locked.is_in_place:
                os.close(self._acquired.pop(name).descriptor)
        return frozenset(self._acquired)

    async def close(self) -> None:
        """Close the files, which releases the locks, as does the end of the process."""
        while self._acquired:
            os.close(self._acquired.popitem()[1].descriptor)


async def _lock(descriptor: int) -> bool:
    """Whether it could be locked; waits for those that share the lock to read its holder."""
    for _ in range(_LOOKS):
        if _try(descriptor, fcntl.LOCK_EX):
            return True
        if not _try(descriptor, fcntl.LOCK_SH):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        await asyncio.sleep(_LOOK.delay(1))
    return False


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(descriptor: int) -> None:
    holder = _Holder(os.getpid(), socket.gethostname(), utc_now())
    with suppress(OSError):  # on a full disk, the lock is valid without its holder's name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(holder), 0)


def _read_holder(descriptor: int) -> str:
    try:
        return str(msgspec.json.decode(os.pread(descriptor, 1_000, 0), type=_Holder))
    except UNDECODABLE:
        return "another process"  # which has not written its name yet


_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_HOLDER = text(
    "SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (classid::bigint << 32) | objid::bigint = :key"
)
_SETUP = (*KEEPALIVE, "SET idle_session_timeout = 0")


class AdvisoryLocks(Locks):
    """Advisory locks of PostgreSQL, held by one connection, and all lost with it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._names: set[str] = set()

    async def acquire(self, name: str) -> str | None:
        """Acquire it; a database that does not answer counts as an unknown holder."""
        try:
            connection = self._connection or await self._connect()
            if await connection.scalar(_TAKE, {"key": _key(name)}):
                self._names.add(name)
                return None
            return await self.holder(name) or "another process"
        except (SQLAlchemyError, OSError) as error:
            await self.close()
            return f"an unknown holder: {error}"

    async def holder(self, name: str) -> str | None:
        """Its holder; raises SQLAlchemy's errors."""
        connection = self._connection or await self._connect()
        found = (await connection.execute(_HOLDER, {"key": _key(name)})).first()
        if found is None:
            return None
        return f"{found.application_name}, since {found.backend_start:%Y-%m-%d %H:%M:%S} UTC"

    async def acquired(self) -> frozenset[str]:
        """All of them, or none if the connection was lost."""
        if self._connection is not None:
            try:
                await self._connection.execute(text("SELECT 1"))
            except (SQLAlchemyError, OSError):
                await self.close()
        return frozenset(self._names)

    async def close(self) -> None:
        """Close the connection, which releases the locks."""
        self._names.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                await connection.invalidate()  # not back into the pool, which would keep it open
            with suppress(SQLAlchemyError, OSError):
                await connection.close()

    async def _connect(self) -> AsyncConnection:
        connection = await self._engine.connect()
        self._connection = connection
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for setting in _SETUP:
            await connection.execute(text(setting))
        name = f"process {os.getpid()} on {socket.gethostname()}"[:63]
        await connection.execute(
            text("SELECT set_config('application_name', :name, false)"), {"name": name}
        )
        return connection


def _key(name: str) -> int:
    digest = hashlib.sha256(f"eventstore {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
