"""Databases of releases in which the library's tables had no prefix come over by themselves.

`tests/data/shared_revisions` has the migrations of those releases.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import JSON, Connection, Inspector, MetaData, insert, inspect, select, text
from sqlalchemy.types import TypeEngine

import eventstore.projections.audit  # noqa: F401  # its tables register as the library's
from eventstore.errors import MigrationError
from eventstore.projections.database import (
    Database,
    Migrations,
    Revisions,
    include_name,
)
from eventstore.projections.database.library import LIBRARY
from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.table_names import library_metadata
from projections import nix_migrations
from projections.models import metadata
from tests.integration.command_line import CommandLine
from tests.unit.projections.memory import START

SHARED = Path(__file__).parents[2] / "data" / "shared_revisions"
REVISIONS = ["0001", "0002", "0003", "0004", "0005"]
DROPPED = "built_position"  # by a later revision: the rows are what is left
PREFIX = "eventstore_"

Rows = Mapping[str, list[tuple[Any, ...]]]


def reflected(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    for column in (column for table in found.tables.values() for column in table.columns):
        if column.type.python_type is datetime:
            column.type = UtcDateTime()
    return found


def rows(connection: Connection) -> Rows:
    return {
        table.name: [
            tuple(row)
            for row in connection.execute(
                select(*(each for each in table.c if each.name != DROPPED))
            )
        ]
        for table in reflected(connection).sorted_tables
    }


def upgrade(connection: Connection, revision: str) -> Rows:
    """Make a database of an old revision, with a row in each of the tables; they are returned."""
    command.upgrade(Migrations(SHARED).config(connection), revision)
    for table in reflected(connection).sorted_tables:
        if table.name != "alembic_version":
            values = {column.name: _value(column.type) for column in table.columns}
            connection.execute(insert(table).values(values))
    return rows(connection)


_VALUES: Mapping[type[object], object] = {int: 1, float: 1.5, str: "x", bool: True}


def _value(kind: TypeEngine[Any]) -> object:
    if isinstance(kind, UtcDateTime):
        return START
    return {} if isinstance(kind, JSON) else _VALUES[kind.python_type]


async def old_database(location: str, revision: str) -> Rows:
    async with Database(location) as database:
        return await database.transact(lambda connection: upgrade(connection, revision))


async def execute(database: Database, statement: str) -> None:
    await database.transact(lambda connection: connection.execute(text(statement)))


def names(connection: Connection) -> set[str | None]:
    """Those of all indexes; in PostgreSQL, those of primary keys are indexes, too."""
    inspector = inspect(connection)
    tables = inspector.get_table_names()
    found = {index["name"] for table in tables for index in inspector.get_indexes(table)}
    if connection.dialect.name == "postgresql":
        found |= {inspector.get_pk_constraint(table)["name"] for table in tables}
    return found


def differences(connection: Connection, migrations: Migrations, models: MetaData) -> list[Any]:
    def of_these(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        is_users = include_name(name, kind, parents)
        return kind != "table" or is_users == (models is metadata)

    options: dict[str, Any] = {"compare_server_default": True, "include_name": of_these}
    options["version_table"] = migrations.version_table
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), models))


def is_as_made_anew(connection: Connection) -> bool:
    old = {"projection", "parked_event", "audit_event", "audit_command", "audit_outcomes"}
    left = [name for name in names(connection) if str(name)[3:].startswith(tuple(old))]
    return (
        left == []
        and old.isdisjoint(inspect(connection).get_table_names())
        and differences(connection, LIBRARY, library_metadata) == []
        and differences(connection, nix_migrations(), metadata) == []
    )


def check_rows(after: Rows, before: Rows) -> None:
    """Check that every row is there, in the columns that it had."""
    for name, old in before.items():
        new = after[name if name in after else PREFIX + name]
        if name != "alembic_version":
            assert [row[: len(old[0])] for row in new] == old


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_database_of_each_old_revision_comes_over_with_its_rows_and_indexes(
    new_read_model: str, revision: str
) -> None:
    before = await old_database(new_read_model, revision)

    async with Database(new_read_model, migrations=nix_migrations()) as database:
        newest = (LIBRARY.newest(), nix_migrations().newest())
        assert await database.revisions() == tuple(Revisions(revision, new) for new in newest)
        with pytest.raises(MigrationError, match=f"is at revision {revision}, this code needs"):
            await database.check_schema()

        await database.migrate()

        await database.check_schema()
        assert await database.revisions() == tuple(Revisions(new, new) for new in newest)
        after = await database.transact(rows)
        check_rows(after, before)
        assert after["alembic_version"] == [("0006",)]
        assert await database.transact(is_as_made_anew)


async def test_without_migrations_of_its_own_an_application_gets_only_the_library_s(
    new_read_model: str,
) -> None:
    before = await old_database(new_read_model, "0003")

    async with Database(new_read_model) as database:
        await database.migrate()
        await database.check_schema()
        after = await database.transact(rows)

    check_rows(after, before)
    assert after["alembic_version"] == [("0003",)]


async def test_a_column_that_somebody_added_comes_over_too(new_read_model: str) -> None:
    before = await old_database(new_read_model, "0005")
    async with Database(new_read_model) as database:
        for table in ("projection", "audit_event"):
            await execute(database, f"ALTER TABLE {table} ADD COLUMN mine INTEGER DEFAULT 7")
        await database.migrate()
        after = await database.transact(rows)

    check_rows(after, before)
    assert [after[f"{PREFIX}{name}"][0][-1] for name in ("projection", "audit_event")] == [7, 7]


async def test_a_user_s_table_with_the_columns_of_the_first_revision_is_left_alone(
    new_read_model: str,
) -> None:
    make = (
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('0001')",
        "CREATE TABLE projection (name TEXT, version INT, position INT, updated_at TEXT)",
        "INSERT INTO projection VALUES ('mine', 1, 2, 'now')",
    )
    async with Database(new_read_model) as database:
        for statement in make:
            await execute(database, statement)
        await database.migrate()
        after = await database.transact(rows)

    assert after["projection"] == [("mine", 1, 2, "now")]
    assert after["eventstore_projection"] == []


async def test_several_may_come_over_concurrently(new_read_model: str, tmp_path: Path) -> None:
    before = await old_database(new_read_model, "0005")
    words = "migrate", "--database", new_read_model
    cli = CommandLine(tmp_path)
    with cli.start(*words) as one, cli.start(*words) as other:
        ended = [await asyncio.to_thread(each.ended) for each in (one, other)]

    assert [each.status for each in ended] == [0, 0], ended
    async with Database(new_read_model, migrations=nix_migrations()) as database:
        check_rows(await database.transact(rows), before)
        assert await database.transact(is_as_made_anew)


KILLED = """
import asyncio, sys
from eventstore.projections.database import Database, Migrations

async def main():
    migrations = Migrations(sys.argv[2], version_table="of_its_own")
    async with Database(sys.argv[1], migrations=migrations) as database:
        await database.migrate()

asyncio.run(main())
"""


async def test_one_that_comes_over_while_it_is_looked_at_is_seen_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = str(tmp_path / "old.sqlite")
    await old_database(location, "0005")
    has_table = Inspector.has_table

    def meanwhile(inspector: Inspector, name: str, **options: Any) -> bool:
        found = has_table(inspector, name, **options)
        if name == "projection":
            monkeypatch.setattr(Inspector, "has_table", has_table)
            other = threading.Thread(target=lambda: asyncio.run(come_over()))
            other.start()
            other.join()
        return found

    async def come_over() -> None:
        async with Database(location) as database:
            await database.migrate()

    async with Database(location) as database:
        monkeypatch.setattr(Inspector, "has_table", meanwhile)
        assert (await database.revisions())[0].found == "0005"
        assert (await database.revisions())[0].is_newest


async def test_one_that_is_killed_in_the_middle_leaves_the_database_as_it_was(
    new_read_model: str, tmp_path: Path
) -> None:
    before = await old_database(new_read_model, "0005")
    (tmp_path / "env.py").write_text(
        "import os, signal\n"
        "from alembic import context\n"
        "connection = context.config.attributes['connection']\n"
        "connection.exec_driver_sql('SELECT count(*) FROM eventstore_projection')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "versions").mkdir()
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, new_read_model, os.fspath(tmp_path)
    )
    assert await killed.wait() == -signal.SIGKILL

    async with Database(new_read_model, migrations=nix_migrations()) as database:
        assert await database.transact(rows) == before
        await database.migrate()
        check_rows(await database.transact(rows), before)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", r"9999.*made by a newer version"),
        ("DROP TABLE alembic_version", "tables of an older release, but alembic_version does not"),
    ],
    ids=["newer", "without-a-revision"],
)
async def test_one_of_an_unknown_revision_is_refused_unchanged(
    new_read_model: str, statement: str, problem: str
) -> None:
    await old_database(new_read_model, "0005")
    async with Database(new_read_model) as database:
        await execute(database, statement)
        before = await database.transact(rows)

        for step in (database.migrate(), database.check_schema(), database.revisions()):
            with pytest.raises(MigrationError, match=problem):
                await step
        assert await database.transact(rows) == before
