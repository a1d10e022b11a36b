"""Projection workers killed at random moments: the rows still equal the fold of the log.

The short form runs with the suite, the long one with `make fault`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from eventstore import nix
from eventstore.client.client import Client
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints
from eventstore.store.store import EventStore
from projections import nix_migrations, nix_projections
from tests.conftest import url_of
from tests.fault import LONG
from tests.fault.nix_history import append_history
from tests.integration.ledger import declare_log
from tests.unit.projections.test_nix_fold import fold, found

EVENTS, KILLS = (100_000, 100) if LONG else (4_000, 4)
PAGES = EVENTS // 200 // KILLS  # between two deaths, so that they are spread over the whole run
MAX_DELAY = 0.06  # about as long as a transaction takes


class Run:
    """A worker process, and the positions that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.position = 0

    async def says(self) -> bool:
        """Whether it has committed another page; False at its end."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        self.position = int(line or self.position)
        return bool(line)

    async def killed_after(self, pages: int, delay: float) -> bool:
        """Kill it a moment after some pages; False if it had ended before."""
        for _ in range(pages):
            if not await self.says():
                return False
        try:
            await asyncio.wait_for(self.process.wait(), delay)
        except TimeoutError:
            self.process.kill()
        return await self.process.wait() == -signal.SIGKILL

    async def finished(self) -> int:
        """Let it reach the end of the log; returns its exit status."""
        while await self.says():
            pass
        return await asyncio.wait_for(self.process.wait(), 60)


async def begin(client: Client, domain: str, path: Path) -> Run:
    arguments = ["-m", "tests.fault.projection_process", url_of(client), domain, str(path)]
    return Run(
        await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
    )


async def positions(database: Database) -> set[tuple[str, int]]:
    async with database.engine.connect() as connection:
        rows = await connection.execute(select(checkpoints.c.name, checkpoints.c.position))
        return {(row.name, row.position) for row in rows}


@pytest.mark.timeout(3_600 if LONG else 120)
async def test_the_rows_equal_the_fold_however_often_the_worker_is_killed(
    client: Client, domain_name: str, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print(f"random seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # chance, not a secret
    domain = nix.domain(domain_name)
    path = tmp_path / "read_model.sqlite"
    await declare_log(client, domain.codec)
    async with (
        EventStore(client, domain.codec) as store,
        Database(path, migrations=nix_migrations()) as database,
    ):
        await append_history(store, domain, EVENTS, chance)
        await database.migrate()

        killed = 0
        for _ in range(KILLS):
            run = await begin(client, domain_name, path)
            pages = chance.randint(1, max(1, 2 * PAGES - 1))
            killed += await run.killed_after(pages, chance.uniform(0, MAX_DELAY))
        assert killed >= KILLS // 3, "they must have died at work"
        assert await (await begin(client, domain_name, path)).finished() == 0

        expected = fold([event async for event in store.read_all()])
        rows = await found(database)
        for table, of_log in expected.items():
            assert rows[table] == of_log, table
        assert await positions(database) == {(each.name, EVENTS) for each in nix_projections()}
