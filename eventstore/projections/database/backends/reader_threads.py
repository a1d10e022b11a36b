"""Threads that read, each by a connection of its own; one change of threads and back for a read.

A queue and a call into the event loop cost a sixth of what an executor and its futures do
(measured).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long a read may take once the database is being closed."""

_INTERRUPT_INTERVAL = 0.1


class ReaderThreads:
    """Runs reads in at most `number` threads, which are started by the first; others wait."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        self._number = number
        self._threads: list[threading.Thread] = []
        self._reads: SimpleQueue[_Read | None] = SimpleQueue()
        self._connections: dict[int, sqlite3.Connection] = {}
        self._is_closed = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in one transaction; if cancelled, it is not begun, or dropped."""
        if self._is_closed:
            raise RuntimeError("the database is closed")
        if not self._threads:
            self._start()
        read = _Read(work)
        self._reads.put(read)
        result: T = await read.future
        return result

    def close(self) -> None:
        """Return when the reads that were begun or queued have ended, and all is closed.

        Statements that take longer than some seconds are interrupted.
        """
        self._is_closed = True
        for _ in self._threads:
            self._reads.put(None)
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)
            while thread.is_alive():
                self._interrupt()
                thread.join(_INTERRUPT_INTERVAL)
        self._engine.dispose()

    def _interrupt(self) -> None:
        for connection in list(self._connections.values()):
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.interrupt()

    def _start(self) -> None:
        for number in range(self._number):
            thread = threading.Thread(target=self._serve, name=f"reader-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        connection: Connection | None = None
        while (read := self._reads.get()) is not None:
            if read.future.cancelled():
                continue
            try:
                connection = connection or self._connect()
                with connection.begin():
                    result = read.work(connection)
            except BaseException as error:
                if isinstance(error, DBAPIError) and connection is not None:
                    _drop(connection)
                    connection = None
                read.end(_fail, error)
            else:
                read.end(_succeed, result)
            del read
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        """The connection of this thread."""
        connection = self._engine.connect()
        driver: Any = connection.connection.driver_connection
        self._connections[threading.get_ident()] = driver
        return connection


class _Read:
    """A read, and the future of the event loop that waits for its result."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def end(self, how: Callable[[asyncio.Future[Any], Any], None], result: object) -> None:
        """Pass on its result to the event loop, if that still runs."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(how, self.future, result)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, StopIteration):  # which no future takes
        cause, error = error, RuntimeError(f"the read raised {error!r}")
        error.__cause__ = cause
    if not future.done():
        future.set_exception(error)


def _drop(connection: Connection) -> None:
    """Close a connection that may be unusable; the next read makes a new one."""
    with suppress(DBAPIError):
        connection.invalidate()
        connection.close()
