"""Prepared statements lead to the rows that SQLAlchemy's own execution leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import StatementError

from eventstore.projections.database import prepared
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import UtcDateTime
from tests.unit.projections.counters import make_tables, table

metadata = MetaData()
things = Table(
    "things",
    metadata,
    Column("id", String(50), primary_key=True),
    Column("made", UtcDateTime),
    Column("local", DateTime),
    Column("data", JSON),
    Column("raw", LargeBinary),
    Column("number", BigInteger),
    Column("share", Float),
    Column("is_new", Boolean),
)
defaulted = Table(
    "defaulted",
    metadata,
    Column("id", String(50), primary_key=True),
    Column("by", Text, default=lambda: "computed"),
    Column("constant", Text, default="constant"),
)
counts = table("counted")

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda each: timezone(timedelta(minutes=each)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
ROWS = st.fixed_dictionaries(
    {
        "made": st.none() | TIMES,
        "local": st.none() | st.datetimes(),
        "data": st.none() | st.lists(TEXTS) | st.dictionaries(TEXTS, st.integers()),
        "raw": st.none() | st.binary(max_size=8),
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "share": st.none() | st.floats(allow_nan=False),
        "is_new": st.none() | st.booleans(),
    }
)
WRONG = st.fixed_dictionaries(
    {
        "made": st.none() | st.datetimes() | TEXTS | st.integers(),
        "data": st.none() | st.just(object()),
        "number": st.integers(2**62, 2**65) | TEXTS | st.just(object()),
        "is_new": st.integers() | TEXTS,
    }
)

Execute = Callable[[Connection, Any, list[dict[str, Any]]], object]

_engines: list[Engine] = []


def in_memory() -> Engine:
    """An empty database, which is closed when these tests are over."""
    _engines.append(create_engine("sqlite://"))
    return _engines[-1]


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    while _engines:
        _engines.pop().dispose()


def carefully(connection: Connection, statement: Any, rows: Any) -> object:
    return connection.execute(statement, rows)


def outcome(run: Execute, statement: Any, rows: list[dict[str, Any]]) -> object:
    """The stored rows, as the driver returns them, or the kind of error."""
    engine = in_memory()
    metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(insert(things), [{"id": "0", "number": 5}, {"id": "1", "number": 6}])
        try:
            run(connection, statement, rows)
        except Exception as error:
            return type(error)
        return connection.exec_driver_sql("SELECT * FROM things ORDER BY id").all()


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": f"n{number}", **row} for number, row in enumerate(rows)]


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_rows_are_inserted_as_sqlalchemy_inserts_them(rows: list[dict[str, Any]]) -> None:
    statement = insert(things)
    expected = outcome(carefully, statement, numbered(rows))
    assert outcome(prepared.execute, statement, numbered(rows)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(WRONG, min_size=1, max_size=3))
def test_wrong_values_are_refused_as_sqlalchemy_refuses_them(rows: list[dict[str, Any]]) -> None:
    statement = insert(things)
    expected = outcome(carefully, statement, numbered(rows))
    assert outcome(prepared.execute, statement, numbered(rows)) == expected


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from(["0", "1", "2"]))
def test_rows_are_changed_as_sqlalchemy_changes_them(row: dict[str, Any], own: str) -> None:
    changing = update(things).where(things.c.id == bindparam("own"), things.c.number > 1)
    expected = outcome(carefully, changing, [{"own": own, **row}])
    assert outcome(prepared.execute, changing, [{"own": own, **row}]) == expected
    removing = delete(things).where(things.c.id == bindparam("own"), things.c.number.in_([5, 7]))
    assert outcome(prepared.execute, removing, [{"own": own}]) == outcome(
        carefully, removing, [{"own": own}]
    )


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        (insert(defaulted), [{"id": "1"}, {"id": "2"}]),
        (insert(defaulted), [{"id": "1", "by": None}]),
        (insert(things), [{"id": "1", "unknown": 3}]),
        (insert(things), [{"number": 3}]),
        (update(things).where(things.c.id == bindparam("own")), [{"number": 3}]),
        (update(things).where(things.c.id.in_(bindparam("own", expanding=True))), [{"own": []}]),
        (update(things).values(number=things.c.number + 1), [{}]),
        (insert(things).from_select(["id"], select(things.c.id + bindparam("x"))), [{"x": "a"}]),
        (insert(things).returning(things.c.id), [{"id": "9"}]),
    ],
)
def test_whatever_needs_more_is_left_to_sqlalchemy(
    statement: Any, rows: list[dict[str, Any]]
) -> None:
    def tables(run: Execute) -> object:
        engine = in_memory()
        metadata.create_all(engine)
        with engine.connect() as connection:
            try:
                run(connection, statement, rows)
            except Exception as error:
                return type(error), str(error)
            return [connection.execute(select(each)).all() for each in (things, defaulted)]

    assert tables(prepared.execute) == tables(carefully)


def reading(connection: Connection, statement: Any, values: dict[str, Any]) -> object:
    """What SQLAlchemy returns: names and rows, or the kind of error and its text."""
    return read(lambda: carefully(connection, statement, values))


def prepared_reading(connection: Connection, statement: Any, values: dict[str, Any]) -> object:
    """The same of a statement that was executed before."""
    with suppress(Exception):
        prepared.fetch(connection, statement, values)
    return read(lambda: prepared.fetch(connection, statement, values))


def read(run: Callable[[], Any]) -> object:
    try:
        found = run()
        names, rows = found if isinstance(found, tuple) else (found.keys(), found.all())
    except Exception as error:
        return type(error), str(error)
    return [*names], [tuple(row) for row in rows]


@contextmanager
def stored(rows: list[dict[str, Any]]) -> Iterator[Connection]:
    engine = in_memory()
    metadata.create_all(engine)
    with engine.begin() as connection:
        if rows:
            connection.execute(insert(things), numbered(rows))
        yield connection


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=3))
def test_rows_are_read_as_sqlalchemy_reads_them(rows: list[dict[str, Any]]) -> None:
    statement = select(things).where(things.c.id != bindparam("other"), things.c.id != "n7")
    with stored(rows) as connection:
        expected = reading(connection, statement, {"other": "n1"})
        assert prepared_reading(connection, statement, {"other": "n1"}) == expected


again = things.alias()


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (select(func.count(), func.max(things.c.made), things.c.id + "x"), {}),
        (select(things.c.made.label("id"), things.c.id), {}),
        (select(things.c.id, again.c.id, things.c.id).where(things.c.id == again.c.id), {}),
        (select(literal_column("*")).select_from(things), {}),
        (select(text("id, made FROM things")), {}),
        (select(literal_column("made, id", DateTime)).select_from(things), {}),
        (select(things).where(things.c.id.in_(["n0", "n2"])).limit(1), {}),
        (select(things).where(things.c.id.in_(bindparam("ids", expanding=True))), {"ids": ["n0"]}),
        (select(things.c.made).where(things.c.made > bindparam("made")), {"made": datetime.max}),
        (select(things).where(things.c.id == bindparam("id")), {}),
        (select(things).where(things.c.id == bindparam("id")), {"id": object()}),
        (select(things).where(things.c.id == bindparam("id")), {"id": 2**70}),
        (select(things).where(things.c.id == bindparam("id")), {"id": "n0", "more": 1}),
        (select(defaulted.c.by, text("nowhere")), {}),
        (select(Table("missing", MetaData(), Column("id", Text))), {}),
        (select(type_coerce(things.c.id, UtcDateTime)), {}),
    ],
)
def test_all_that_can_be_selected_is_as_sqlalchemy_returns_it(
    statement: Any, values: dict[str, Any]
) -> None:
    rows: list[dict[str, Any]] = [
        {"made": datetime(2026, 1, 2, tzinfo=UTC), "number": 1},
        {"made": None, "number": 3},
    ]
    with stored(rows) as connection:
        expected = reading(connection, statement, values)
        assert prepared_reading(connection, statement, values) == expected


def executions(statement: Callable[[], Any]) -> int:
    """How many of three reads are left to SQLAlchemy."""
    with stored([{"number": 3}]) as connection:
        seen: list[object] = []
        event.listen(connection, "before_cursor_execute", lambda *each: seen.append(each))
        for _ in range(3):
            assert prepared.fetch(connection, statement(), {})[1] == [("n0", 3)]
        return len(seen)


def test_only_a_statement_that_is_executed_again_is_prepared() -> None:
    once = select(things.c.id, things.c.number)
    assert executions(lambda: once) == 1
    assert executions(lambda: select(things.c.id, things.c.number)) == 3


def test_a_read_without_a_transaction_is_left_to_sqlalchemy_which_begins_one() -> None:
    statement = select(things.c.id)
    engine = in_memory()
    metadata.create_all(engine)
    for _ in range(3):
        with engine.connect() as connection:
            assert prepared.fetch(connection, statement, {}) == (("id",), [])
            assert connection.in_transaction()


async def test_the_changed_rows_are_counted(database: Database) -> None:
    await make_tables(database)
    rows = [{"position": number, "counter": "a", "by": number} for number in range(4)]

    def work(connection: Connection) -> list[int]:
        prepared.execute(connection, insert(counts), rows)
        changing = update(counts).where(counts.c.position < bindparam("end"))
        return [
            prepared.execute(connection, changing, [{"end": end, "by": 9}]) for end in (0, 2, 4)
        ]

    assert await database.transact(work) == [0, 2, 4]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
async def test_a_time_is_stored_in_utc(database: Database, zone: timezone) -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=zone)
    await database.create_tables([things])

    def work(connection: Connection) -> list[datetime]:
        prepared.execute(connection, insert(things), [{"id": "1", "made": time}])
        connection.execute(insert(things), {"id": "2", "made": time})
        return list(connection.scalars(select(things.c.made)))

    found = await database.transact(work)
    assert found == [time, time]
    assert {each.tzinfo for each in found} == {UTC}
    with pytest.raises(StatementError, match="has no zone"):
        await database.transact(
            lambda connection: prepared.execute(
                connection, insert(things), [{"id": "3", "made": time.replace(tzinfo=None)}]
            )
        )
