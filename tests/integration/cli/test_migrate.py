"""`eventstore migrate`: migrations and checks, without a server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from eventstore.projections.database import database as module
from eventstore.projections.database.database import Database
from eventstore.projections.database.library import LIBRARY
from projections import nix_migrations
from tests.integration.command_line import CommandLine

NEWEST = LIBRARY.newest()
NEWEST_NIX = nix_migrations().newest()


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "folder")


@pytest.fixture(autouse=True)
def folder(cli: CommandLine) -> Path:
    cli.folder.mkdir()
    return cli.folder


def execute(location: str, statement: str) -> None:
    async def run() -> None:
        async with Database(location) as database:
            await database.transact(lambda connection: connection.execute(text(statement)))

    asyncio.run(run())


def revision(location: str) -> str | None:
    return asyncio.run(Database(location).revisions())[0].found


def test_it_migrates_the_schema_and_prints_the_revisions(
    cli: CommandLine, new_read_model: str
) -> None:
    cli.environ |= {"EVENTSTORE_DATABASE": new_read_model}
    checked = cli.call("migrate", "--check")
    assert checked.status == 1
    behind = "is at revision none, this code needs"
    library, application = checked.out.splitlines()
    assert library.endswith(f": {behind} {NEWEST}")
    assert application == f"tables of the application: {behind} {NEWEST_NIX}"
    assert not Path(new_read_model).exists()

    migrated = cli.call("migrate")
    assert (migrated.status, migrated.err) == (0, "")
    assert f": migrated from revision none to {NEWEST}\n" in migrated.out
    assert revision(new_read_model) == NEWEST

    for words in (["migrate"], ["migrate", "--check"]):
        again = cli.call(*words)
        assert again.status == 0
        assert f": is at revision {NEWEST} already\n" in again.out


def test_json_is_one_object(cli: CommandLine, folder: Path) -> None:
    reports = [cli.call("migrate", *words, "--json") for words in (["--check"], [], [])]

    assert [each.status for each in reports] == [1, 0, 0]
    name = "var/read_model.sqlite"
    before = {"from": None, "to": NEWEST, "application": {"from": None, "to": NEWEST_NIX}}
    after = {"from": NEWEST, "to": NEWEST, "application": {"from": NEWEST_NIX, "to": NEWEST_NIX}}
    assert [json.loads(each.out) for each in reports] == [
        {"database": name, **before, "migrated": False},
        {"database": name, **before, "migrated": True},
        {"database": name, **after, "migrated": False},
    ]
    assert (folder / name).exists()


@pytest.mark.parametrize("words", [["migrate"], ["migrate", "--check"]])
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE eventstore_revision SET version_num = '9999'", "made by a newer version"),
        ("UPDATE alembic_version SET version_num = 'abc'", "belongs to another program"),
    ],
    ids=["newer", "of-another-program"],
)
def test_a_foreign_database_is_refused_and_unchanged(
    cli: CommandLine, read_model: str, statement: str, problem: str, words: list[str]
) -> None:
    execute(read_model, statement)
    before = Path(read_model).read_bytes() if Path(read_model).exists() else b""

    ended = cli.call(*words, "--database", read_model)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert problem in ended.err
    assert ended.err.count("\n") == 1
    assert (Path(read_model).read_bytes() if before else b"") == before


def test_tables_of_a_newer_release_that_this_one_can_use_are_named_and_left(
    cli: CommandLine, read_model: str
) -> None:
    execute(read_model, "UPDATE eventstore_schema SET version_num = '9999'")

    for words in (["migrate"], ["migrate", "--check"]):
        ended = cli.call(*words, "--database", read_model)
        assert (ended.status, ended.err) == (0, "")
        assert "is at revision 9999, of a newer release, which this one can use" in ended.out


@pytest.mark.parametrize("words", ["projection list", "projection reset flakes --yes"])
@pytest.mark.parametrize("table", ["eventstore_revision", "alembic_version"])
def test_no_command_works_on_tables_of_a_newer_release(
    cli: CommandLine, read_model: str, table: str, words: str
) -> None:
    _check_newer_is_refused(cli, read_model, table, words)


@pytest.mark.parametrize("words", ["audit search", "audit export"])
def test_the_audit_index_is_not_read_from_tables_of_a_newer_release(
    cli: CommandLine, read_model: str, words: str
) -> None:
    _check_newer_is_refused(cli, read_model, "eventstore_revision", words)


def _check_newer_is_refused(cli: CommandLine, location: str, table: str, words: str) -> None:
    execute(location, f"UPDATE {table} SET version_num = '9999'")  # noqa: S608

    ended = cli.call(*words.split(), "--database", location)

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "revision 9999, which this code does not know: it was made by a newer" in ended.err
    assert "`" not in ended.err, "migrating cannot help"


@pytest.mark.parametrize("words", [["migrate"], ["migrate", "--check"]])
@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("postgresql://joe:secret@127.0.0.1:1/x", "joe:***@127.0.0.1:1/x as read model"),
        ("db2://joe:secret@host/x", "db2 is not supported"),
        ("text", "file is not a database"),
        (".", "cannot use . as read model"),
    ],
)
def test_an_unusable_database_is_one_clear_line(
    cli: CommandLine, folder: Path, location: str, problem: str, words: list[str]
) -> None:
    (folder / "text").write_text("no database, but long enough to be read as the head of one " * 9)
    before = cli.files()
    ended = cli.call(*words, "--database", location)

    assert (ended.status, ended.out) == (2, "")
    assert problem in ended.err
    assert "secret" not in ended.err
    assert ended.err.count("\n") == 1
    assert cli.files() == before


def test_a_locked_database_is_reported(
    cli: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT", 0.01)
    monkeypatch.setattr("eventstore.projections.database.backends.sqlite.BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(folder / "new.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ended = cli.call("migrate", "--database", "new.sqlite")

    assert (ended.status, ended.out) == (2, "")
    assert "new.sqlite" in ended.err
    assert "database is locked" in ended.err
    assert revision(str(folder / "new.sqlite")) is None
