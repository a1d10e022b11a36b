"""The queries of a user's domain: their handlers and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from sqlalchemy import Connection, select

from eventstore.client.responder import Answer, Request
from eventstore.errors import (
    DatabaseUnavailable,
    InvalidHeader,
    InvalidPayload,
    ProjectionError,
    QueryNotFound,
    QueryTimeout,
)
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import POSITION
from eventstore.messages.queries import WAIT_POSITION, WAIT_TIMEOUT, Listed, ListQuery, Query
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.queries.queries import QueryHandlers, query_answers
from eventstore.projections.queries.rows import Rows
from eventstore.projections.queries.waiting import CheckpointPositions, Positions
from eventstore.telemetry import Telemetry
from tests.unit.projections.counters import Counted, make_tables, table
from tests.unit.projections.counters import counting as counting_in
from tests.unit.projections.reading import SUBJECTS, ask, move, replaced_by_a_directory

BOUND = 10.0


class CountView(Struct, frozen=True):
    position: int
    by: int


class GetTotal(Query[CountView], subject="counter.get_total"):
    __label__ = "GetSum"
    at: int


class GetCount(Query[CountView], subject="counter.get"):
    at: int


class ListCounts(ListQuery[CountView], subject="counter.list"):
    counter: str | None = None


counts = table("counted")
counting = Projection("counting", tables=[counts])
others = counting_in("others")
counter_queries = QueryHandlers(counting)


@counting.handles
def counted(event: Counted, recorded: RecordedEvent) -> Statement:
    return counts.insert().values(position=recorded.position, counter="a", by=event.by)


@counter_queries.answers
def get_count(query: GetCount, rows: Rows) -> CountView:
    return rows.one(query, select(counts).where(counts.c.position == query.at), f"at {query.at}")


@counter_queries.answers
def list_counts(query: ListCounts, rows: Rows) -> Listed[CountView]:
    return rows.page(query, select(counts), by=(counts.c.position,))


@pytest.fixture
async def tables(database: Database) -> Database:
    await make_tables(database)

    def fill(connection: Connection) -> None:
        rows = [{"position": number, "counter": "a", "by": 10 * number} for number in (1, 2, 3)]
        connection.execute(counts.insert(), rows)

    await database.transact(fill)
    await move(database, 3, "counting")
    return database


def answers_of(
    database: Database,
    *handlers: QueryHandlers,
    positions: Positions | None = None,
    **options: Any,
) -> dict[str, Answer]:
    waiting = positions or CheckpointPositions(database)
    return query_answers(database, waiting, handlers or [counter_queries], SUBJECTS, **options)


async def test_a_handler_is_a_few_lines(tables: Database) -> None:
    answers = answers_of(tables)
    assert set(answers) == {"nix.query.counter.get", "nix.query.counter.list"}

    one = await ask(answers, GetCount(at=2))
    assert (one.data, one.position) == (CountView(2, 20), 3)
    with pytest.raises(QueryNotFound, match="there is no at 9 at position 3 of the log"):
        await ask(answers, GetCount(at=9))
    first = (await ask(answers, ListCounts(limit=2))).data
    assert first.items == [CountView(1, 10), CountView(2, 20)]
    rest = (await ask(answers, ListCounts(limit=2, after=first.next))).data
    assert rest == Listed(items=[CountView(3, 30)])


async def test_of_several_projections_the_slowest_counts(tables: Database) -> None:
    both = QueryHandlers(counting, others)

    @both.answers
    def get(query: GetCount, rows: Rows) -> CountView:
        return CountView(0, 0)

    answers = answers_of(tables, both)
    assert (await ask(answers, GetCount(at=0))).position == 0  # one has not even begun
    await move(tables, 2, "others")
    assert (await ask(answers, GetCount(at=0))).position == 2


async def request(answers: dict[str, Answer], payload: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    subject = "nix.query.counter.list"
    return await answers[subject](Request(subject=subject, payload=payload, headers=named))


async def test_no_payload_is_no_filter(tables: Database) -> None:
    reply = await request(answers_of(tables), b"")
    assert reply.headers == {POSITION: "3"}


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"countr": "a"}', "countr"),
        (b'{"limit": "5"}', r"\$\.limit"),
        (b'{"limit": 1001}', r"\$\.limit"),
        (b'{"after": "x"}', "after: 'x' is not a cursor"),
        (b'{"counter": "\xff"}', "ListCounts"),
        (b'{"counter": ' + b"[" * 100_000, "ListCounts"),
    ],
)
async def test_what_is_not_understood_is_refused(
    tables: Database, payload: bytes, named: str
) -> None:
    with pytest.raises(InvalidPayload, match=named):
        await request(answers_of(tables), payload)


@pytest.mark.parametrize("position", ["", "-1", "1.5", "x", "²", "9" * 20, str(2**63)])
async def test_a_malformed_position_is_refused(tables: Database, position: str) -> None:
    with pytest.raises(InvalidHeader, match=f"header {WAIT_POSITION} is .*, not a position"):
        await request(answers_of(tables), b"", X_Wait_Position=position)


async def test_a_wait_has_its_bounds(tables: Database) -> None:
    answers = answers_of(tables, wait_seconds=0.05)
    with pytest.raises(QueryTimeout, match=r"is at position 3, not at 4, after 0\.05 s"):
        await request(answers, b"", X_Wait_Position="4")
    with pytest.raises(QueryTimeout, match=r"after 0\.01 s"):
        await request(answers, b"", X_Wait_Position="4", X_Wait_Timeout="10")
    with pytest.raises(InvalidHeader, match=f"{WAIT_TIMEOUT} is '30001', not milliseconds"):
        await request(answers, b"", X_Wait_Position="4", X_Wait_Timeout="30001")


async def test_what_is_there_needs_no_wait(tables: Database) -> None:
    answers = answers_of(tables)
    for position in ("0", "3"):
        reply = await request(answers, b"", X_Wait_Position=position, X_Wait_Timeout="1")
        assert reply.headers[POSITION] == "3"


class Hasty:
    """Reports every position as reached, like a checkpoint that a replica does not have yet."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def wait(
        self, position: int, timeout: float = 5.0, *, projection: str | None = None
    ) -> None:
        self.asked.set()


async def test_an_answer_is_never_older_than_what_was_waited_for(tables: Database) -> None:
    hasty = Hasty()
    answers = answers_of(tables, positions=hasty)
    waiting = asyncio.create_task(request(answers, b"", X_Wait_Position="4"))
    await asyncio.wait_for(hasty.asked.wait(), BOUND)
    await move(tables, 4, "counting")
    assert (await asyncio.wait_for(waiting, BOUND)).headers[POSITION] == "4"
    with pytest.raises(QueryTimeout):
        await request(answers, b"", X_Wait_Position="5", X_Wait_Timeout="10")


class CountRecorder(Telemetry):
    def __init__(self) -> None:
        self.counts: list[dict[str, str]] = []

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        self.counts.append({"name": name, **labels})


async def test_every_query_is_counted_by_its_outcome(tables: Database) -> None:
    recorder = CountRecorder()
    answers = answers_of(tables, telemetry=recorder)
    await ask(answers, GetCount(at=1))
    for failing in (ask(answers, GetCount(at=9)), request(answers, b"{")):
        with pytest.raises((QueryNotFound, InvalidPayload)):
            await failing
    assert recorder.counts == [
        {"name": "queries", "type": "GetCount", "outcome": "success"},
        {"name": "queries", "type": "GetCount", "outcome": "not_found"},
        {"name": "queries", "type": "ListCounts", "outcome": "invalid_payload"},
    ]


async def test_a_renamed_query_keeps_its_type_in_metrics(tables: Database) -> None:
    recorder, handlers = CountRecorder(), QueryHandlers(counting)

    @handlers.answers
    def get_total(query: GetTotal, rows: Rows) -> CountView:
        return CountView(position=query.at, by=0)

    answers = answers_of(tables, handlers, telemetry=recorder)
    await ask(answers, GetTotal(at=1))
    assert recorder.counts == [{"name": "queries", "type": "GetSum", "outcome": "success"}]


async def test_a_database_that_cannot_be_read_now_is_reported(sqlite_database: Database) -> None:
    await sqlite_database.engine.dispose()
    await asyncio.to_thread(replaced_by_a_directory, Path(str(sqlite_database.url.database)))
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        await ask(answers_of(sqlite_database), GetCount(at=1))


def annotated(**hints: Any) -> Callable[[Any, Any], Any]:
    def handler(query: Any, rows: Any) -> Any:
        raise NotImplementedError

    handler.__annotations__ = hints
    return handler


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (annotated(), "takes a query, by whose type it is annotated, and the rows"),
        (annotated(query=int), "takes a query"),
        (annotated(query=Query), "takes a query"),
        (annotated(query=GetCount), "the answer of GetCount is"),
        (annotated(query=GetCount, **{"return": int}), "returns <class 'int'>, but the answer of"),
        (annotated(query="Missing"), "annotation not understood, name 'Missing'"),
        (lambda query: None, "takes a query"),
    ],
)
def test_a_handler_that_does_not_say_what_it_is_for_is_refused(
    handler: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(ProjectionError, match=problem):
        QueryHandlers(counting).answers(handler)


async def asynchronous(query: GetCount, rows: Rows) -> CountView:
    raise NotImplementedError


@wraps(asynchronous)
def decorated(*arguments: Any) -> Any: ...


class Asynchronous:
    async def __call__(self, query: GetCount, rows: Rows) -> CountView:
        raise NotImplementedError


@pytest.mark.parametrize("handler", [asynchronous, decorated, Asynchronous()])
def test_an_asynchronous_handler_is_refused(handler: Callable[..., Any]) -> None:
    with pytest.raises(ProjectionError, match="is async"):
        QueryHandlers(counting).answers(handler)


def test_a_handler_may_have_been_given_its_other_arguments() -> None:
    def handler(query: GetCount, rows: Rows, *, counter: str) -> CountView:
        raise NotImplementedError

    with pytest.raises(ProjectionError, match=r"missing .* argument: 'counter'"):
        QueryHandlers(counting).answers(handler)
    handlers = QueryHandlers(counting)
    handlers.answers(partial(handler, counter="a"))
    assert list(handlers.handlers) == [GetCount]


def test_a_query_has_one_handler(database: Database) -> None:
    again = QueryHandlers(counting)
    again.answers(get_count)
    with pytest.raises(ProjectionError, match="GetCount already has a handler; get_count is"):
        again.answers(get_count)
    with pytest.raises(ProjectionError, match=r"the only query on nix\.query\.counter\.get"):
        answers_of(database, counter_queries, again)
    with pytest.raises(ProjectionError, match="need the projections"):
        QueryHandlers()
