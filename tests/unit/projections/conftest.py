from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore import nix
from eventstore.projections.database.database import Database
from tests.unit.projections.counters import codec
from tests.unit.projections.memory import MemoryLog


@pytest.fixture
async def database(read_model: str) -> AsyncIterator[Database]:
    """An open read model; the test runs on each kind of database."""
    async with Database(read_model) as database:
        yield database


@pytest.fixture
async def sqlite_database(sqlite_read_model: Path) -> AsyncIterator[Database]:
    """An open read model, for tests of SQLite only."""
    async with Database(sqlite_read_model) as database:
        yield database


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(codec)


@pytest.fixture
def nix_log() -> MemoryLog:
    return MemoryLog(nix.domain().codec)
