from __future__ import annotations

import asyncio
import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, insert, inspect, text

from eventstore.errors import MigrationError
from eventstore.projections.audit import audit
from eventstore.projections.database import Migrations, Revisions, checkpoint
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.library import LIBRARY
from eventstore.projections.database.tables import checkpoints
from eventstore.projections.table_names import library_metadata
from projections import nix_migrations, nix_projections, revisions
from projections.models import metadata
from tests.unit.projections.counters import counting
from tests.unit.projections.memory import START


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


@pytest.mark.parametrize("models", [library_metadata, metadata], ids=["library", "application"])
async def test_migrations_and_models_agree(new_read_model: str, models: MetaData) -> None:
    migrations = nix_migrations() if models is metadata else LIBRARY

    def differences(connection: Connection) -> list[Any]:
        migrations.upgrade(connection)
        options = {"target_metadata": models, "compare_server_default": True}
        options["version_table"] = migrations.version_table
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, models))

    async with Database(new_read_model) as database:
        assert await database.transact(differences) == []


async def test_indexes_of_some_rows_are_made_as_they_are_declared(new_read_model: str) -> None:
    """Alembic does not compare their conditions."""

    def conditions(connection: Connection) -> set[tuple[str | None, str]]:
        inspector, kind = inspect(connection), f"{connection.dialect.name}_where"
        return {
            (index["name"], str(index["dialect_options"][kind]).replace("<>", "!="))
            for table in inspector.get_table_names()
            for index in inspector.get_indexes(table)
            if kind in index.get("dialect_options", {})
        }

    def declared(connection: Connection) -> set[tuple[str | None, str]]:
        for table in library_metadata.tables:
            connection.execute(text(f"DROP TABLE {table}"))
        library_metadata.create_all(connection)
        return conditions(connection)

    async with Database(new_read_model) as database:
        await database.migrate()
        made = await database.transact(conditions)
        assert len(made) == 6
        assert made == await database.transact(declared)


def test_the_projections_write_tables_that_are_migrated() -> None:
    tables = {table for projection in nix_projections() for table in projection.tables}
    assert tables == set(metadata.tables.values())
    assert set(audit.tables) < set(library_metadata.tables.values())


async def test_every_step_can_be_taken_back(new_read_model: str) -> None:
    async with Database(new_read_model, migrations=nix_migrations()) as database:
        await database.migrate()
        for migrations in (nix_migrations(), LIBRARY):
            await database.transact(migrations.downgrade)
        assert await database.transact(table_names) == {"alembic_version", "eventstore_schema"}

        await database.migrate()
        await database.check_schema()
        assert await database.transact(table_names) == {
            *("alembic_version", "eventstore_schema"),
            *metadata.tables,
            *library_metadata.tables,
        }


async def test_a_second_migration_changes_nothing(database: Database) -> None:
    row = insert(checkpoints).values(name="p", version=1, position=1, updated_at=START)
    await database.transact(lambda c: c.execute(row))

    await database.migrate()

    count = text("SELECT count(*) FROM eventstore_projection")
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
    newer = text("UPDATE eventstore_revision SET version_num = '9999'")
    await database.transact(lambda c: c.execute(newer))

    for step in (database.migrate(), database.check_schema(), database.transact(LIBRARY.downgrade)):
        with pytest.raises(MigrationError, match=r"revision 9999.*made by a newer version"):
            await step


def recorded(connection: Connection) -> tuple[str, str]:
    """The revision that a release has to know, and the newest one."""
    tables = ("eventstore_revision", "eventstore_schema")
    required, newest = (
        connection.scalars(text(f"SELECT version_num FROM {table}")).one()  # noqa: S608
        for table in tables
    )
    return required, newest


async def test_a_newer_release_s_tables_are_used_if_all_that_must_be_known_is(
    database: Database,
) -> None:
    newer = text("UPDATE eventstore_schema SET version_num = '9999'")
    await database.transact(lambda c: c.execute(newer))

    await database.migrate()
    await database.transact(LIBRARY.upgrade)
    await database.check_schema()

    assert (await database.revisions())[0] == Revisions("9999", LIBRARY.newest(), is_newer=True)
    assert await database.transact(recorded) == ("0007", "9999")


@pytest.mark.parametrize("revision", ["0007", "0009"])
async def test_tables_of_a_release_with_one_version_table_come_over_and_stay_usable_by_it(
    new_read_model: str, revision: str
) -> None:
    """The release before knows the revisions up to 0007, and has them recorded in that table."""

    def make(connection: Connection) -> None:
        LIBRARY.upgrade(connection)
        LIBRARY.downgrade(connection, "0009")
        LIBRARY.downgrade(connection, revision)
        one_table = "CREATE TABLE eventstore_revision AS SELECT version_num FROM eventstore_schema"
        connection.execute(text(one_table))
        connection.execute(text("DROP TABLE eventstore_schema"))

    async with Database(new_read_model) as database:
        await database.transact(make)
        assert (await database.revisions())[0] == Revisions(revision, LIBRARY.newest())
        await database.migrate()

        await database.check_schema()
        assert await database.transact(recorded) == ("0007", LIBRARY.newest())


async def test_a_step_that_fails_leaves_the_database_as_it_was(new_read_model: str) -> None:
    async with Database(new_read_model, migrations=nix_migrations()) as database:
        await database.transact(lambda c: c.execute(text("CREATE TABLE package_cache (n INTEGER)")))

        with pytest.raises(MigrationError, match=r'"?package_cache"? already exists'):
            await database.migrate()

        assert await database.transact(table_names) == {"package_cache"}


async def test_a_revision_that_does_not_exist_is_named(database: Database) -> None:
    with pytest.raises(MigrationError, match="migrating to nowhere failed"):
        await database.transact(lambda c: LIBRARY.downgrade(c, "nowhere"))


def test_the_scripts_of_the_shipped_domain_are_found_in_a_wheel_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "projections"
    monkeypatch.setattr(revisions, "__file__", str(package / "revisions.py"))
    with pytest.raises(MigrationError, match=r"no migration scripts in .*/migrations: there is no"):
        nix_migrations.__wrapped__()

    for directory in (tmp_path / "migrations", package / "migrations"):
        directory.mkdir(parents=True)
        (directory / "env.py").touch()
        assert nix_migrations.__wrapped__().scripts == directory


async def test_the_scripts_may_lie_anywhere(tmp_path: Path) -> None:
    odd = tmp_path / "100% odd: %(here)s"
    shutil.copytree(nix_migrations().scripts, odd)

    async with Database(tmp_path / "new.sqlite", migrations=Migrations(odd)) as database:
        await database.migrate()
        await database.check_schema()


@pytest.mark.parametrize("migrations", [LIBRARY, nix_migrations()], ids=["library", "application"])
def test_the_next_migration_is_written_from_the_models(
    tmp_path: Path, migrations: Migrations
) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(migrations.scripts, scripts)
    for script in (scripts / "versions").glob("[0-9]*.py"):
        script.unlink()
    copied = Migrations(scripts)
    copied.version_table = migrations.version_table

    importlib.import_module("migrations.__main__").main("All anew", copied)

    written = (scripts / "versions" / "0001_all_anew.py").read_text()
    assert '"""All anew."""' in written
    assert "sa.DateTime(timezone=True)" in written
    assert "UtcDateTime" not in written
    assert ("create_table('flake'" in written) == (migrations is not LIBRARY)
    assert ("create_table('eventstore_projection'" in written) == (migrations is LIBRARY)


def test_migrations_that_cannot_work_are_refused_when_declared(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"no migration scripts in .*nowhere"):
        Migrations(tmp_path / "nowhere")
    (tmp_path / "env.py").touch()
    with pytest.raises(MigrationError, match="EVENTSTORE_revision, as if it were one of the libr"):
        Migrations(tmp_path, version_table="EVENTSTORE_revision")


async def test_an_entry_point_that_does_not_take_the_connection_is_one_error(
    tmp_path: Path,
) -> None:
    shutil.copytree(nix_migrations().scripts, scripts := tmp_path / "scripts")
    (scripts / "env.py").write_text("{}['url']")

    async with Database(tmp_path / "r.sqlite", migrations=Migrations(scripts)) as database:
        with pytest.raises(MigrationError, match="migrating to heads failed: KeyError"):
            await database.migrate()
        assert await database.transact(table_names) == set()


async def test_a_checkpoint_of_an_earlier_release_has_seen_nothing_yet(database: Database) -> None:
    def come_over(connection: Connection) -> Checkpoint | None:
        checkpoint.restart(connection, counting("old"), 7, START)
        LIBRARY.downgrade(connection, "0008")
        LIBRARY.upgrade(connection)
        return checkpoint.read(connection, "old")

    known = await database.transact(come_over)
    assert known is not None
    assert (known.position, known.seen, known.mark) == (7, None, None)
