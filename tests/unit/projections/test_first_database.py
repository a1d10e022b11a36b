"""A read model of the first version can be migrated by every later one.

`tests/data` has both as that version left them: the log `log_v1.jsonl`, and the dump of a database
at revision 0001 whose projections had come as far as position 20.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore import nix
from eventstore.application import running
from eventstore.projections.database import Revisions
from eventstore.projections.database.database import Database
from eventstore.projections.database.library import LIBRARY
from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.worker.worker import ProjectionWorker
from projections import nix_migrations, nix_projections
from tests.unit.projections.memory import MemoryLog
from tests.unit.projections.test_nix_fold import fold, found

DATA = Path(__file__).parents[2] / "data"
CODEC = nix.domain().codec
SEEN = 20

Rows = Mapping[str, list[tuple[Any, ...]]]


@pytest.fixture
def first_database(tmp_path: Path) -> Path:
    path = tmp_path / "read_model.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DATA / "read_model_0001.sqlite.sql").read_text())
    return path


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(CODEC)
    for line in (DATA / "log_v1.jsonl").read_text().splitlines():
        stored = json.loads(line)
        payload = stored["payload"].encode()
        log.events += CODEC.recorded(
            stored["subject"], stored["headers"], payload, stored["position"]
        )
    return log


def columns(path: Path) -> dict[str, list[str]]:
    """Those of all tables but Alembic's own."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: [column[1] for column in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in tables.fetchall()
            if name != "alembic_version"
        }


def rows(path: Path, of: Mapping[str, list[str]]) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: sorted(
                connection.execute(f"SELECT {', '.join(names)} FROM {table}"),  # noqa: S608
                key=repr,
            )
            for table, names in of.items()
        }


def test_the_stored_log_has_every_type_of_event_before_and_after_the_database_was_made(
    log: MemoryLog,
) -> None:
    assert [event.position for event in log.events] == list(range(1, log.end + 1))
    assert len({event.type for event in log.events[:SEEN]}) == 16
    assert len({event.aggregate for event in log.events[SEEN:]}) == 5


async def test_migrating_changes_none_of_its_rows(first_database: Path, log: MemoryLog) -> None:
    old = columns(first_database)
    before = dict(rows(first_database, old))
    assert all(before.values())
    newest, newest_nix = LIBRARY.newest(), nix_migrations().newest()

    async with Database(first_database, migrations=nix_migrations()) as database:
        assert await database.revisions() == (
            Revisions("0001", newest),
            Revisions("0001", newest_nix),
        )
        await database.migrate()
        await database.check_schema()
        assert await database.revisions() == (
            Revisions(newest, newest),
            Revisions(newest_nix, newest_nix),
        )

    before["eventstore_projection"] = before.pop("projection")
    old["eventstore_projection"] = old.pop("projection")
    assert rows(first_database, old) == before


async def test_the_projections_continue_from_its_checkpoint_or_rebuild_their_rows(
    first_database: Path, log: MemoryLog
) -> None:
    async with Database(first_database, migrations=nix_migrations()) as database:
        await database.migrate()
        store: Any = log
        worker = ProjectionWorker(
            store, database, nix_projections(), rebuild=auto_rebuild(store, database)
        )
        async with running(worker):
            await worker.wait(log.end, 20)

        applied = {name: progress.applied for name, progress in worker.progress.items()}
        assert applied["flakes"] < len([each for each in log.events if each.aggregate == "flake"])
        assert applied["packages"] == 0, "they have new columns, and were rebuilt"
        assert await found(database) == fold(log.events)
