"""Answer queries from read models: decode, wait, read in one transaction, and report its position.

    todos = QueryHandlers(todo_projection)

    @todos.answers
    def get_todo(query: GetTodo, rows: Rows) -> TodoView:
        return rows.one(query, select(todo).where(todo.c.id == query.id), f"todo {query.id}")

    @todos.answers
    def list_todos(query: ListTodos, rows: Rows) -> Listed[TodoView]:
        return rows.page(query, select(todo), by=(todo.c.title, todo.c.id))

    answers = query_answers(database, worker, [todos], subjects)
    responder = Responder(client, answers, queue="todos")

Handlers only read. The annotation of a handler's first parameter is the query it is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, func, or_, select

from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import (
    DeciderError,
    EventStoreError,
    InvalidHeader,
    OtherLog,
    ProjectionError,
    QueryNotFound,
    QueryTimeout,
    WaitTimeout,
)
from eventstore.messages.decoders import decoder_of
from eventstore.messages.functions import annotations_of, count_positional, is_async, name_of
from eventstore.messages.headers import POSITION, Header
from eventstore.messages.queries import MAX_WAIT, WAIT_POSITION, WAIT_TIMEOUT, Query, read_query
from eventstore.messages.subjects import Subjects
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.prepared import fetch
from eventstore.projections.database.tables import checkpoints
from eventstore.projections.projection import Projection
from eventstore.projections.queries.rows import Rows
from eventstore.projections.queries.waiting import Positions
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_PAUSE = 0.02

F = TypeVar("F", bound=Callable[..., Any])


class QueryHandlers:
    """The queries that are answered from the tables of some projections.

    An answer reflects the log up to the position that all of these projections have reached.
    Raises `ProjectionError` if none is given.
    """

    def __init__(self, *projections: Projection) -> None:
        if not projections:
            raise ProjectionError("query handlers need the projections whose tables they read")
        self.projections = tuple(each.name for each in projections)
        self.handlers: dict[type[Query[Any]], Callable[[Any, Rows], Any]] = {}

    def answers(self, function: F, /) -> F:
        """Register the handler of the query that its first parameter is annotated with.

        It is called with the query and the `Rows`, and returns the query's answer. Raises
        `ProjectionError` if the annotations say otherwise, or the query already has a handler.
        """
        query = _query_of(function)
        if query in self.handlers:
            raise ProjectionError(
                f"{query.__name__} already has a handler; {name_of(function)} is a second"
            )
        self.handlers[query] = function
        return function


def query_answers(
    database: Database,
    positions: Positions,
    handlers: Iterable[QueryHandlers],
    subjects: Subjects,
    *,
    wait_seconds: float = 5.0,
    log: str | None = None,
    telemetry: Telemetry = NO_TELEMETRY,
) -> dict[str, Answer]:
    """The answers of a `Responder`, by subject; each reply has its position in `X-Position`.

    With `log`, the log's identity (`EventStore.identity`), a query is refused (`other_log`) while
    rows that it reads are built from another one.

    A request with `X-Wait-Position` waits until the read model has reached it, for the milliseconds
    of its `X-Wait-Timeout` or for `wait_seconds`, by means of `positions`. Raises
    `ProjectionError` if two handlers share a subject.
    """
    answers: dict[str, Answer] = {}
    for group in handlers:
        reader = _Reader(database, positions, group.projections, log)
        for query, handler in group.handlers.items():
            subject = subjects.query(query.__aggregate__, query.__action__)
            if subject in answers:
                raise ProjectionError(f"{query.__name__} is not the only query on {subject}")
            answers[subject] = _QueryAnswer(query, handler, reader, wait_seconds, telemetry).answer
    return answers


class _Reader:
    """Reads in transactions whose log position is known."""

    def __init__(
        self,
        database: Database,
        positions: Positions,
        projections: tuple[str, ...],
        log: str | None,
    ) -> None:
        self._log = log
        self._database = database
        self._positions = positions
        self._projections = projections
        own = (checkpoints.c.name == each for each in projections)
        of_log = func.min(checkpoints.c.log), func.max(checkpoints.c.log)
        lowest = func.min(checkpoints.c.position)
        self._checkpoint = select(lowest, func.count(), *of_log).where(or_(*own))

    async def read_at(
        self, request: Request, wait_seconds: float, work: Callable[[Rows], bytes]
    ) -> tuple[bytes, int]:
        """The result of `work`, and the position of the rows, at least the one requested.

        The position is read in the same transaction, for a replica may be behind its checkpoints.
        """
        wanted, seconds = _wait_of(request.headers, wait_seconds)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        was_reached = False
        while True:
            made, position = await self._read(wanted, work)
            if made is not None:
                return made, position
            if loop.time() >= end:
                raise WaitTimeout(wanted, position, seconds)
            async with request.waiting():
                if was_reached:
                    await asyncio.sleep(_PAUSE)
                was_reached = await self._is_reached(wanted, end)

    async def _is_reached(self, position: int, end: float) -> bool:
        """Whether all projections reach the position before the end, by their checkpoints."""
        try:
            for projection in self._projections:
                left = max(0.0, end - asyncio.get_running_loop().time())
                await self._positions.wait(position, left, projection=projection)
        except WaitTimeout:
            return False
        return True

    async def _read(
        self, min_position: int, work: Callable[[Rows], bytes]
    ) -> tuple[bytes | None, int]:
        def read(connection: Connection) -> tuple[bytes | None, int]:
            _, ((lowest, count, *logs),) = fetch(connection, self._checkpoint, {})
            if self._log is not None and not {None, self._log}.issuperset(logs):
                raise self._other_log(connection)
            position = lowest if count == len(self._projections) else 0  # one was never used
            if position < min_position:
                return None, position
            try:
                return work(Rows(connection)), position
            except QueryNotFound as error:
                raise QueryNotFound(f"{error} at position {position} of the log") from error

        return await self._database.read(read)

    def _other_log(self, connection: Connection) -> OtherLog:
        known = checkpoint.read_checkpoints(connection, self._projections).values()
        other = next(each for each in known if each.log not in {None, self._log})
        return OtherLog(other, str(self._log))


class _QueryAnswer:
    """Answers the requests of one query."""

    def __init__(
        self,
        query: type[Query[Any]],
        handler: Callable[[Any, Rows], Any],
        reader: _Reader,
        wait_seconds: float,
        telemetry: Telemetry,
    ) -> None:
        self._name = query.__label__
        self._query = query
        decoder_of(query)  # raises if there can be none
        self._handler = handler
        self._reader = reader
        self._wait_seconds = wait_seconds
        self._telemetry = telemetry

    async def answer(self, request: Request) -> Reply:
        """The reply; raises `EventStoreError` for an error reply."""
        traceparent = request.headers.get(Header.TRACEPARENT)
        outcome = "internal"
        with self._telemetry.span("query", traceparent=traceparent, type=self._name):
            try:
                reply = await self._answer(request)
                outcome = "success"
            except WaitTimeout as error:
                outcome = QueryTimeout.code
                raise QueryTimeout(str(error)) from error
            except EventStoreError as error:
                outcome = error.code
                raise
            else:
                return reply
            finally:
                self._telemetry.count("queries", type=self._name, outcome=outcome)

    async def _answer(self, request: Request) -> Reply:
        query = read_query(self._query, request.payload)

        def work(rows: Rows) -> bytes:
            return msgspec.json.encode(self._handler(query, rows))

        payload, position = await self._reader.read_at(request, self._wait_seconds, work)
        return Reply(payload, {POSITION: str(position)})


def _wait_of(headers: Mapping[str, str], seconds: float) -> tuple[int, float]:
    """The position that a request needs, and for how many seconds it waits for that."""
    if WAIT_POSITION not in headers:
        return 0, 0.0
    position = _number(headers, WAIT_POSITION, "a position of the log", 2**63 - 1)
    if WAIT_TIMEOUT not in headers:
        return position, seconds
    longest = int(MAX_WAIT * 1000)
    meaning = f"milliseconds, {longest:,} at most"
    return position, _number(headers, WAIT_TIMEOUT, meaning, longest) / 1000


def _number(headers: Mapping[str, str], name: str, meaning: str, maximum: int) -> int:
    text = headers[name]
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= maximum:
        return int(text)
    raise InvalidHeader(name, f"is {text[:80]!r}, not {meaning}")


def _query_of(function: Callable[..., Any]) -> type[Query[Any]]:
    name = name_of(function)
    if is_async(function):
        raise ProjectionError(f"query handler {name}: is async; rows are not awaited")
    takes = f"query handler {name}: takes a query, by whose type it is annotated, and the rows"
    try:
        count_positional(function, 2)
    except TypeError as error:
        raise ProjectionError(f"{takes}: {error}") from error
    (query, *_), returned = annotations_of(function, f"query handler {name}", ProjectionError)
    if not (isinstance(query, type) and issubclass(query, Query) and hasattr(query, "__action__")):
        raise ProjectionError(takes)
    try:
        decoder_of(query)
    except DeciderError as error:
        raise ProjectionError(f"query handler {name}: {error}") from error
    if returned != query.__answer__:
        raise ProjectionError(
            f"query handler {name}: returns {returned}, "
            f"but the answer of {query.__name__} is {query.__answer__}"
        )
    return query
