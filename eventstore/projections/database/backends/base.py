"""The interface of a database for read models, and what all of them have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import StatementError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")


class Backend(ABC):
    """One database of one kind.

    `name` is for messages, without a password; `engine` reads, and cannot write; `path` is its
    file, if it is one; `errors` are what SQLAlchemy and its driver raise.
    """

    name: str
    url: URL
    path: Path | None
    engine: AsyncEngine
    errors: tuple[type[Exception], ...]

    @abstractmethod
    async def open(self) -> None:
        """Connect, creating what is missing; may be called once more after a failure."""

    @abstractmethod
    async def write(
        self,
        work: Callable[[Connection], T],
        committed: Callable[[T], None] | None = None,
        *,
        shadow: Self | None = None,
        whole_tables: bool = False,
    ) -> T:
        """Run one write transaction, in which the tables of a shadow can be read, too.

        If cancelled before it has begun, it does nothing; later, it ends first. `whole_tables` is
        whether it may change, or sort, whole tables; with a shadow, it may.
        """

    @abstractmethod
    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run one read transaction, which sees one snapshot; few run at a time, others wait.

        If cancelled, it does not begin, or its result is dropped.
        """

    @abstractmethod
    async def peek(self, work: Callable[[Connection], T]) -> T:
        """Read from a database that need not be open, without creating or changing anything."""

    @abstractmethod
    async def read_beside(self, work: Callable[[Connection], T], shadow: Self) -> T:
        """Read what is there, and the tables of a shadow; both are open."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections, once a transaction that is under way has ended."""

    @abstractmethod
    async def size(self) -> int:
        """Its size in bytes; raises `DatabaseUnavailable` if it is not what was opened."""

    @abstractmethod
    def shadow(self, name: str, schemas: Iterable[str] = ()) -> Self:
        """A second, private database beside this one, for tables of these schemas, too."""

    @abstractmethod
    def schema_of(self, schema: str | None) -> str:
        """Where the live database sees the tables of this shadow that are declared in a schema."""

    @abstractmethod
    async def exists(self) -> bool:
        """Whether this shadow has been created."""

    @abstractmethod
    async def drop(self) -> None:
        """Delete this shadow, with everything in it."""

    def forget_definitions(self) -> None:  # noqa: B027  # SQLite's connections notice
        """Connect again, for tables have been recreated."""

    @abstractmethod
    def may_open_later(self, error: BaseException) -> bool:
        """Whether opening may succeed a moment later."""

    def is_damaged(self, error: BaseException) -> bool:
        """Whether the stored data is corrupt."""
        return False


def without_password(url: URL) -> str:
    """A URL for messages: without the password, which may also be among the parameters."""
    return url.set(query={}).render_as_string(hide_password=True)


def cause_of(error: BaseException) -> BaseException:
    """The driver's error that SQLAlchemy's wraps, at whatever depth."""
    if isinstance(error, StatementError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


async def run_to_end(
    running: asyncio.Future[T],
    withdraw: Callable[[], bool],
    done: Callable[[T], None] | None,
) -> T:
    """The result of a transaction; a caller that is cancelled waits until it has ended.

    `withdraw` cancels it before it begins, and returns whether that succeeded. `done` is called
    with the result in any case.
    """
    if done is not None:
        running.add_done_callback(partial(_call_with_result, done))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not withdraw():
            await asyncio.wait([running])
        raise


def _call_with_result(done: Callable[[T], None], ended: asyncio.Future[T]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        done(ended.result())
