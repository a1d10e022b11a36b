"""Lists that are sorted by columns with nulls: in pages, they are still the whole list."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    func,
    insert,
    select,
)

from eventstore.errors import InvalidPayload
from eventstore.messages.queries import Listed, ListQuery
from eventstore.projections.database.database import Database
from eventstore.projections.queries import cursor
from eventstore.projections.queries.rows import Rows


class TaskView(msgspec.Struct, frozen=True):
    id: int


class ListTasks(ListQuery[TaskView], subject="task.list"):
    pass


metadata = MetaData()
task = Table(
    "task",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("due", Integer),
    Column("owner", String(9)),
)
owner = Table(
    "owner",
    metadata,
    Column("name", String(9), primary_key=True),
    Column("rank", Integer, nullable=False),
)
TASKS = [
    *((1, 5, "ann"), (2, None, "bob"), (3, 1, None)),
    *((4, None, None), (5, 5, None), (6, 1, "ann")),
]
JOINED = select(task, owner.c.rank).outerjoin(owner, owner.c.name == task.c.owner)
UPPER = func.upper(task.c.owner).label("by")
UNTYPED = func.replace(task.c.owner, "-", "").label("by")
LISTS: dict[str, tuple[Select[Any], list[Any], list[int]]] = {
    "one": (select(task), [task.c.due, task.c.id], [3, 6, 1, 5, 2, 4]),
    "two": (select(task), [task.c.due, task.c.owner, task.c.id], [6, 3, 1, 5, 2, 4]),
    "an outer join": (JOINED, [owner.c.rank, task.c.id], [1, 6, 2, 3, 4, 5]),
    "an expression": (select(task, UPPER), [UPPER, task.c.id], [1, 6, 2, 3, 4, 5]),
    "an untyped one": (select(task, UNTYPED), [UNTYPED, task.c.id], [1, 6, 2, 3, 4, 5]),
}


@pytest.fixture
async def tasks(database: Database) -> Database:
    rows = [dict(zip(task.c.keys(), row, strict=True)) for row in TASKS]
    owners = [{"name": "ann", "rank": 1}, {"name": "bob", "rank": 2}]

    def fill(connection: Connection) -> None:
        metadata.create_all(connection)
        connection.execute(insert(task), rows)
        connection.execute(insert(owner), owners)

    await database.transact(fill)
    return database


async def page(database: Database, query: ListTasks, statement: Any, by: Any) -> Listed[TaskView]:
    def read(connection: Connection) -> Listed[TaskView]:
        return Rows(connection).page(query, statement, by)

    async with database.reading() as connection:
        return await connection.run_sync(read)


@pytest.mark.parametrize("kind", LISTS)
async def test_all_pages_together_are_the_list(tasks: Database, kind: str) -> None:
    statement, by, wanted = LISTS[kind]
    for limit in (1, 2, 3, 5):
        got: list[int] = []
        query = ListTasks(limit=limit)
        while True:
            part = await page(tasks, query, statement, by)
            got += [each.id for each in part.items]
            if part.next is None:
                break
            query = msgspec.structs.replace(query, after=part.next)
        assert got == wanted, limit


async def test_a_cursor_has_no_null_where_there_can_be_none(tasks: Database) -> None:
    by = [task.c.due, task.c.id]
    after = cursor.encode(ListTasks(), by, [5, None])

    with pytest.raises(InvalidPayload, match="is not a cursor of this list"):
        await page(tasks, ListTasks(after=after), select(task), by)
