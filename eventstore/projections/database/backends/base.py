"""What every database that holds read models offers, and what they have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncEngine

from eventstore.errors import ProjectionError

__all__ = ["Backend", "DatabaseUnavailable", "cause_of", "shown", "to_its_end"]

T = TypeVar("T")


class DatabaseUnavailable(ProjectionError):
    """The read-model database stayed locked, full, damaged or away for as long as was waited."""

    code = "database_unavailable"
    retryable = True
    is_damage = False


class Backend(ABC):
    """One database of one kind.

    `name` shows it in messages, without a password; `engine` reads, and cannot write; `path` is
    its file, where it is one; `errors` are what SQLAlchemy and its driver raise.
    `seen_as` is the schema in which a database it lies beside sees its tables while taking over.
    """

    name: str
    url: URL
    path: Path | None
    engine: AsyncEngine
    errors: tuple[type[Exception], ...]
    seen_as: str

    @abstractmethod
    async def open(self) -> None:
        """Try it, making what is missing of it; may be called again where that failed."""

    @abstractmethod
    async def write(
        self,
        work: Callable[[Connection], T],
        committed: Callable[[T], None] | None = None,
        *,
        shadow: Self | None = None,
    ) -> T:
        """Try one write transaction, in which the tables of a shadow can be read, too.

        Cancelled before it has begun it does nothing, and afterwards it comes to its end first.
        """

    @abstractmethod
    async def look(self, work: Callable[[Connection], T]) -> T:
        """Read from one that need not be open; nothing is made of it or in it."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections, once a transaction that is under way has ended."""

    @abstractmethod
    async def size(self) -> int:
        """How many bytes it has; raises `DatabaseUnavailable` where it is not what was opened."""

    @abstractmethod
    def beside(self, name: str) -> Self:
        """A second place of the same kind."""

    @abstractmethod
    async def exists(self) -> bool:
        """Whether this place beside another one has been made."""

    @abstractmethod
    async def drop(self) -> None:
        """Delete this place beside another one, with everything in it."""

    @abstractmethod
    def opens_later(self, error: BaseException) -> bool:
        """Whether one that could not be opened is worth a short wait."""

    def is_damaged(self, error: BaseException) -> bool:
        """Whether what is stored can be read no more."""
        return False


def shown(url: URL) -> str:
    """A URL for messages: without the password, which some write among the parameters."""
    return url.set(query={}).render_as_string(hide_password=True)


def cause_of(error: BaseException) -> BaseException:
    """The driver's error inside of SQLAlchemy's, however deep."""
    if isinstance(error, StatementError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


async def to_its_end(
    running: asyncio.Future[T],
    withdraw: Callable[[], bool],
    done: Callable[[T], None] | None,
) -> T:
    """The result of a transaction; where the caller is cancelled, not before it has ended.

    `withdraw` takes it back and tells whether that was in time. `done` is called with the result
    in any case.
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
