"""Overwriting: which updates need not be executed, and that a database would take each of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Update,
    bindparam,
    insert,
    select,
    update,
)

from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.worker.overwriting import last_of_each

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
metadata = MetaData()
things = Table(
    "things",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("small", SmallInteger),
    Column("number", Integer),
    Column("large", BigInteger, nullable=False, server_default="0"),
    Column("short", String(5)),
    Column("text", Text),
    Column("is_set", Boolean),
    Column("at", UtcDateTime),
    Column("naive", DateTime),
    Column("notes", JSON),
    Column("indexed", Integer, index=True),
    Column("owner", String(20), ForeignKey("things.id")),
)
numbered = Table(
    "numbered",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer),
)
checked = Table(
    "checked",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("n", Integer),
    CheckConstraint("n < 9"),
)
plain = Table(
    "plain", metadata, *(column._copy() for column in things.columns if not column.foreign_keys)
)
plain.indexes.clear()


def changing(table: Table) -> Update:
    return update(table).where(table.c.id == bindparam("key"))


def kept(statement: Update, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(each) for each in last_of_each(statement, rows)]


TAKEN: dict[str, list[Any]] = {
    "small": [-(2**15), 2**15 - 1, None],
    "number": [-(2**31), 2**31 - 1, None],
    "large": [-(2**63), 2**63 - 1],
    "short": ["", "abcde", "äöüß€", "\0", None],
    "text": ["", "x" * 100_000, "\U0001f600", None],
    "is_set": [True, False, None],
    "at": [NOON, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None],
    "indexed": [0],
}

NOT_PROVEN: dict[str, list[Any]] = {
    "small": [2**15, -(2**15) - 1, "1", True, 1.0],
    "number": [2**31, True, 1.5],
    "large": [2**63, -(2**63) - 1, None],
    "short": ["abcdef", b"abc", 1, "\ud800"],
    "text": ["\udfff", 7, b""],
    "is_set": [1, "true"],
    "at": [NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=1))), "2026-01-01"],
    "naive": [NOON.replace(tzinfo=None)],
    "notes": [{"a": 1}],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in TAKEN.items() for v in vs])
async def test_what_is_overwritten_would_have_been_taken(
    database: Database, name: str, value: Any
) -> None:
    """By the database itself, else its event would go unnoticed."""
    final = {"key": "a", name: TAKEN[name][0]}
    assert kept(changing(plain), {"key": "a", name: value}, final) == [final]

    await database.create_tables([plain])
    await database.transact(lambda c: c.execute(insert(plain), {"id": "a"}))
    await database.transact(lambda c: c.execute(changing(plain), {"key": "a", name: value}))


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in NOT_PROVEN.items() for v in vs])
def test_what_may_be_refused_is_executed(name: str, value: Any) -> None:
    final = {"key": "a", name: (TAKEN.get(name) or [value])[0]}
    rows = [{"key": "a", name: value}, final]
    assert kept(changing(plain), *rows) == rows
    assert kept(changing(plain), *reversed(rows)) == [*reversed(rows)]


def test_the_last_update_of_each_row_stays_in_its_place() -> None:
    rows = [{"key": key, "large": n} for n, key in enumerate("abacbad")]
    assert kept(changing(plain), *rows) == [rows[each] for each in (3, 4, 5, 6)]


@pytest.mark.parametrize("key", [1, True, "a\ud800", b"a", None], ids=repr)
def test_a_key_that_may_be_refused_is_used(key: Any) -> None:
    rows = [{"key": key, "large": 1}, {"key": key, "large": 2}]
    assert kept(changing(plain), *rows) == rows


def test_numbers_that_are_equal_in_python_only_are_different_keys() -> None:
    rows: list[dict[str, Any]] = [{"key": 1, "n": 1}, {"key": True, "n": 2}, {"key": 1.0, "n": 3}]
    assert kept(changing(numbered), *rows) == rows
    assert kept(changing(numbered), rows[0], rows[0]) == [rows[0]]


UNPROVEN: dict[str, tuple[Update, dict[str, Any]]] = {
    "by what is there": (changing(plain).values(large=plain.c.large + bindparam("by")), {"by": 1}),
    "where it is of use": (changing(plain).where(plain.c.large < 5), {"large": 7}),
    "by two keys": (
        changing(plain).where(plain.c.text == bindparam("own")),
        {"own": "", "large": 7},
    ),
    "checked": (changing(checked), {"n": 1}),
    "indexed": (changing(things), {"indexed": 1}),
    "referring": (changing(things), {"owner": "b"}),
    "of the key": (changing(plain), {"id": "b"}),
    "of nothing": (changing(plain), {}),
    "of all": (update(plain), {"large": 1}),
}


@pytest.mark.parametrize("what", UNPROVEN)
def test_an_update_that_is_not_proven_to_be_overwritten_is_executed(what: str) -> None:
    statement, values = UNPROVEN[what]
    rows = [{"key": "a", **values}] * 2
    assert kept(statement, *rows) == rows


def test_inserts_are_all_executed() -> None:
    rows = [{"id": "a", "large": 1}] * 2
    assert last_of_each(insert(plain), rows) == rows


async def test_a_page_leaves_the_last_values(database: Database) -> None:
    rows = [{"key": key, "large": n} for n, key in enumerate("abcab")]
    await database.create_tables([plain])

    def work(connection: Any) -> Any:
        connection.execute(insert(plain), [{"id": each} for each in "abc"])
        connection.execute(changing(plain), [*last_of_each(changing(plain), rows)])
        return connection.execute(select(plain.c.id, plain.c.large).order_by(plain.c.id)).all()

    assert await database.transact(work) == [("a", 3), ("b", 4), ("c", 2)]
