"""Queries answered without a server: the same answers that a responder gives, called directly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Table, func, insert, select

from eventstore.client.queries import QueryAnswer
from eventstore.client.responder import Answer, Reply, Request
from eventstore.messages.headers import position_of
from eventstore.messages.queries import Query
from eventstore.messages.subjects import Subjects
from eventstore.nix import FlakeView, ListFlakes
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import projection
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.queries.waiting import CheckpointPositions
from projections.models import flake
from projections.queries import nix_queries

A = TypeVar("A")

SUBJECTS = Subjects("nix")
TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KNOWN = {"version": 1, "position": 1, "created_at": TIME, "updated_at": TIME}


def nix_answers(database: Database, **options: Any) -> dict[str, Answer]:
    return query_answers(
        database, CheckpointPositions(database), nix_queries(), SUBJECTS, **options
    )


async def ask(
    answers: Mapping[str, Answer], query: Query[A], headers: Mapping[str, str] | None = None
) -> QueryAnswer[A]:
    reply = await ask_raw(answers, query, headers)
    return QueryAnswer(
        msgspec.json.decode(reply.payload, type=type(query).__answer__),
        position_of(reply.headers) or 0,
    )


async def ask_raw(
    answers: Mapping[str, Answer], query: Query[Any], headers: Mapping[str, str] | None = None
) -> Reply:
    subject = SUBJECTS.query(query.__aggregate__, query.__action__)
    request = Request(subject=subject, payload=msgspec.json.encode(query), headers=headers or {})
    return await answers[subject](request)


async def put(database: Database, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as a projection would have made them."""

    def work(connection: Connection) -> None:
        if values := [{**KNOWN, **row} for row in rows]:
            connection.execute(insert(table), values)

    await database.transact(work)


async def put_flakes(database: Database, paths: Iterable[tuple[str, str]]) -> None:
    """Flakes by path and id."""
    rows = [{"id": id_, "path": path, "description": ""} for path, id_ in paths]
    await put(database, flake, rows)


async def move(database: Database, position: int, *names: str) -> None:
    """Checkpoints, as if these projections had come so far."""

    def work(connection: Connection) -> None:
        for name in names:
            connection.execute(projection.delete().where(projection.c.name == name))
            values = {"name": name, "version": 1, "position": position, "updated_at": TIME}
            connection.execute(insert(projection).values(values))

    await database.transact(work)


async def count(database: Database, table: Table) -> int:
    async with database.engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(table)) or 0)


async def parts(answers: Mapping[str, Answer], query: ListFlakes) -> list[list[FlakeView]]:
    """All parts of a list of flakes."""
    found = []
    while True:
        answer = (await ask(answers, query)).data
        found.append(answer.items)
        if answer.next is None:
            return found
        query = msgspec.structs.replace(query, after=answer.next)


def replaced_by_a_directory(path: Path) -> None:
    """Move a database's file away, so that it cannot be opened."""
    path.rename(path.with_suffix(".away"))
    path.mkdir()
