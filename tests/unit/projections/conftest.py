from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore import nix
from projections.database import Database
from tests.unit.projections.counters import codec
from tests.unit.projections.memory import MemoryLog


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty read model at the newest revision, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "read_model.sqlite"

    async def migrate() -> None:
        async with Database(path) as database:
            await database.migrate()

    asyncio.run(migrate())
    return path


@pytest.fixture
async def database(migrated: Path, tmp_path: Path) -> AsyncIterator[Database]:
    path = tmp_path / "read_model.sqlite"
    shutil.copyfile(migrated, path)
    async with Database(path) as database:
        yield database


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(codec)


@pytest.fixture
def nix_log() -> MemoryLog:
    return MemoryLog(nix.domain().codec)
