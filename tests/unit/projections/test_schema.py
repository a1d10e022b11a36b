from __future__ import annotations

import asyncio
import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, text

from eventstore.errors import MigrationError
from eventstore.projections.audit import audit
from eventstore.projections.database import schema
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints, metadata
from projections import nix_projections
from tests.unit.projections.memory import START


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_migrations_and_models_agree(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        options = {"target_metadata": metadata, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    assert await database.transact(differences) == []


def test_the_projections_write_tables_that_are_migrated() -> None:
    every = (*nix_projections(), audit)
    tables = {table for projection in every for table in projection.tables}

    names = ("projection", "parked_event", "audit_command", "audit_outcomes")
    own = {metadata.tables[name] for name in names}
    assert tables | own == set(metadata.tables.values())


async def test_every_step_can_be_taken_back(database: Database) -> None:
    await database.transact(schema.downgrade)
    assert await database.transact(table_names) == {"alembic_version"}

    await database.migrate()
    await database.check_schema()
    assert await database.transact(table_names) == {"alembic_version", *metadata.tables}


async def test_a_second_migration_changes_nothing(database: Database) -> None:
    row = insert(checkpoints).values(name="p", version=1, position=1, updated_at=START)
    await database.transact(lambda c: c.execute(row))

    await database.migrate()

    count = text("SELECT count(*) FROM projection")
    assert await database.transact(lambda c: c.execute(count).scalar_one()) == 1


async def test_several_may_migrate_concurrently(new_read_model: str) -> None:
    async def migrate() -> None:
        async with Database(new_read_model) as database:
            await database.migrate()
            await database.check_schema()

    await asyncio.gather(*(migrate() for _ in range(5)))


async def test_migrating_is_silent(new_read_model: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with Database(new_read_model) as database:
        await database.migrate()

    assert capfd.readouterr() == ("", "")


async def test_a_database_that_was_not_migrated_is_refused(new_read_model: str) -> None:
    async with Database(new_read_model) as database:
        with pytest.raises(MigrationError, match="is at revision none, this code needs 0"):
            await database.check_schema()


async def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await database.transact(lambda c: c.execute(newer))

    for step in (database.migrate(), database.check_schema(), database.transact(schema.downgrade)):
        with pytest.raises(MigrationError, match=r"revision 9999.*made by a newer version"):
            await step


async def test_a_step_that_fails_leaves_the_database_as_it_was(new_read_model: str) -> None:
    async with Database(new_read_model) as database:
        await database.transact(lambda c: c.execute(text("CREATE TABLE package_cache (n INTEGER)")))

        with pytest.raises(MigrationError, match=r'"?package_cache"? already exists'):
            await database.migrate()

        assert await database.transact(table_names) == {"package_cache"}


async def test_a_revision_that_does_not_exist_is_named(database: Database) -> None:
    with pytest.raises(MigrationError, match="migrating to nowhere failed"):
        await database.transact(lambda c: schema.downgrade(c, "nowhere"))


def test_the_scripts_are_found_in_a_wheel_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "projections"
    engine = tmp_path / "eventstore" / "projections" / "database"
    monkeypatch.setattr(schema, "__file__", str(engine / "schema.py"))
    with pytest.raises(MigrationError, match="no migration scripts"):
        schema.migrations()

    for directory in (tmp_path / "migrations", package / "migrations"):
        directory.mkdir(parents=True)
        (directory / "env.py").touch()
        assert schema.migrations() == directory


async def test_the_scripts_may_lie_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "100% odd: %(here)s"
    shutil.copytree(schema.migrations(), odd)
    monkeypatch.setattr(schema, "migrations", lambda: odd)

    async with Database(tmp_path / "new.sqlite") as database:
        await database.migrate()
        await database.check_schema()


def test_the_next_migration_is_written_from_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(schema.migrations(), scripts)
    for script in (scripts / "versions").glob("[0-9]*.py"):
        script.unlink()
    monkeypatch.setattr(schema, "migrations", lambda: scripts)

    importlib.import_module("migrations.__main__").main("All anew")

    written = (scripts / "versions" / "0001_all_anew.py").read_text()
    assert '"""All anew."""' in written
    assert "sa.DateTime(timezone=True)" in written
    assert "projections" not in written.replace("'projection'", "")
