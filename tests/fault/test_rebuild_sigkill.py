"""A rebuild killed at any moment: nothing is half done, and the next one resumes."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from eventstore import nix
from eventstore.client.client import Client
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from projections import nix_projections
from tests.integration.ledger import declare_log
from tests.unit.projections.test_nix_fold import beginnings, fold, found, history

ROOT = Path(__file__).parents[2]
BATCH = 3


class Line(NamedTuple):
    """What the process prints after each step; `after` is the position from which it resumed."""

    phase: str
    position: int
    after: int


@contextlib.contextmanager
def rebuilding(url: str, domain: str, location: Path) -> Iterator[subprocess.Popen[str]]:
    words = (url, domain, location, BATCH)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fault.rebuild_process", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[Line]:
    assert process.stdout is not None
    for line in process.stdout:
        phase, position, after = line.split()
        yield Line(phase, int(position), int(after))


async def test_it_resumes_where_it_was_killed(
    client: Client, nats_server: EmbeddedServer, domain_name: str, sqlite_read_model: Path
) -> None:
    codec = nix.domain(domain_name).codec
    await declare_log(client, codec)
    chance = random.Random(11)  # noqa: S311  # the same in each run
    async with EventStore(client, codec) as store:
        for aggregate in range(10):
            log = history([(f"{own}{aggregate}", command) for own, command in beginnings])
            for event in log.events:
                await store.append(event.aggregate, event.aggregate_id, event.data)
        events = [event async for event in store.read_all()]
        async with Database(sqlite_read_model) as database:
            await _catch_up(store, database, len(events))
            before = await found(database)

            reached = 0
            for steps in (chance.randrange(3, 12), chance.randrange(3, 12)):
                with rebuilding(nats_server.url, domain_name, sqlite_read_model) as process:
                    progress = [line for _, line in zip(range(steps), lines(process), strict=False)]
                assert progress[0].after >= reached
                reached = progress[-1].position
                assert reached > 0
                assert await found(database) == before == fold(events)
            with rebuilding(nats_server.url, domain_name, sqlite_read_model) as process:
                progress = list(
                    iter(lines(process).__next__, Line("switching", len(events), reached))
                )
            assert await found(database) == before

            with rebuilding(nats_server.url, domain_name, sqlite_read_model) as process:
                assert list(lines(process))[-1].phase == "done"
            assert process.returncode == 0
            assert await found(database) == fold(events)
            async with database.engine.connect() as connection:
                rows = (await connection.execute(select(checkpoints))).all()
            assert {row.position for row in rows} == {len(events)}
            assert [row.epoch > 1 for row in rows if row.name == "flakes"] == [True]
            assert list(sqlite_read_model.parent.glob("*.rebuild-*[!k]")) == []


async def _catch_up(store: EventStore, database: Database, end: int) -> None:
    worker = ProjectionWorker(
        store,
        database,
        nix_projections(),
        on_progress=lambda position, _pending: worker.stop() if position == end else None,
    )
    await worker.run()
