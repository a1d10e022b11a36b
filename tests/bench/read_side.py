"""One process of a comparison of read sides: of the revision that is first on its path.

It is run as a file, and so uses only what every revision has. Each line of its input is a request,
and each line of its output the answer to one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert

from eventstore import EventStore, connect, load_settings, nix, running
from eventstore.client.client import Client
from eventstore.client.responder import Responder
from eventstore.projections.audit import audit
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.queries.waiting import CheckpointPositions
from eventstore.projections.worker.worker import ProjectionWorker
from projections import nix_migrations, nix_projections
from projections.models import flake
from projections.queries import nix_queries
from tests.bench.loop import run

FLAKES = 10_000


def client_of(url: str) -> Client:
    return connect(load_settings(nats_url=url, environ={}))


@asynccontextmanager
async def read_model(location: str) -> AsyncIterator[Database]:
    async with Database(location, migrations=nix_migrations()) as database:
        await database.migrate()
        yield database


async def queries(url: str, location: str) -> None:
    """Answer queries until the end of the input."""
    async with client_of(url) as client, read_model(location) as database:
        await database.transact(_fill)
        positions = CheckpointPositions(database)
        answers = query_answers(database, positions, nix_queries(), nix.domain().codec.subjects)
        responder = Responder(client, answers, queue="bench")
        async with running(responder):
            await responder.ready.wait()
            print(json.dumps("ready"), flush=True)
            await asyncio.to_thread(sys.stdin.read)


def _fill(connection: Connection) -> None:
    now = datetime.now(UTC)
    checkpoint = {"name": "flakes", "version": 1, "position": FLAKES, "updated_at": now}
    connection.execute(insert(checkpoints).values(checkpoint))
    rows = [
        {
            "id": f"f{number}",
            "path": f"./flakes/{number:05}",
            "description": "Imported from a lock file",
            "version": 1,
            "position": number + 1,
            "created_at": now,
            "updated_at": now,
        }
        for number in range(FLAKES)
    ]
    connection.execute(insert(flake), rows)


async def catch_up(url: str, _location: str) -> None:
    """For each request, project the log up to an end into a new database."""
    async with client_of(url) as client, EventStore(client, nix.domain().codec) as store:
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _caught_up(store, **json.loads(line))), flush=True)


async def _caught_up(store: EventStore, location: str, end: int, audited: bool) -> Any:
    """The seconds it took, and those of CPU."""
    projections = (*nix_projections(), *([audit] if audited else ()))
    async with read_model(location) as database:
        worker = ProjectionWorker(store, database, projections)
        began, used = time.perf_counter(), time.process_time()
        async with running(worker):
            await worker.wait(end, timeout=300)
            return time.perf_counter() - began, time.process_time() - used


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    run({"queries": queries, "catch_up": catch_up}[role](*arguments))
