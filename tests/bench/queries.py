"""Queries by request and reply: service and client are two processes, 16 in flight."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from eventstore import connect, load_settings, nix, running
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.client.responder import Responder
from eventstore.messages.queries import Query
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.queries.waiting import CheckpointPositions
from eventstore.server.embedded import EmbeddedServer
from projections import nix_migrations
from projections.models import flake
from projections.queries import nix_queries
from tests.bench.loop import run

FLAKES = 10_000
ASKED = 5_000
SUBJECTS = nix.domain().codec.subjects


def serve(url: str, path: Path, ready: Event, stop: Event) -> None:
    """The service process."""
    run(_serve(url, path, ready, stop))


async def _serve(url: str, path: Path, ready: Event, stop: Event) -> None:
    async with _client(url) as client, Database(path, migrations=nix_migrations()) as database:
        await database.migrate()
        await database.transact(_fill)
        positions = CheckpointPositions(database)
        answers = query_answers(database, positions, nix_queries(), SUBJECTS)
        responder = Responder(client, answers, queue="bench")
        async with running(responder):
            await responder.ready.wait()
            ready.set()
            await asyncio.to_thread(stop.wait)


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


def _client(url: str) -> Client:
    return connect(load_settings(nats_url=url, environ={}))


def _get(number: int) -> Query[Any]:
    return nix.GetFlake(id=f"f{number * 7919 % FLAKES}")


def _list(number: int) -> Query[Any]:
    return nix.ListFlakes(path_prefix=f"./flakes/{number % 9}", limit=50)


async def _ask(
    queries: QueryClient, query: Callable[[int], Query[Any]], max_concurrency: int
) -> tuple[float, float, float]:
    """Queries a second, and the median and 99th percentile in milliseconds."""
    latencies: list[float] = []
    numbers = iter(range(ASKED))

    async def one_after_another() -> None:
        for number in numbers:
            began = time.perf_counter()
            await queries.ask(query(number), timeout=60)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(max_concurrency)))
    rate = ASKED / (time.perf_counter() - began)
    cuts = statistics.quantiles(latencies, n=100)
    return rate, cuts[49] * 1000, cuts[98] * 1000


async def measure() -> None:
    """Print a line for each kind of query, sequential and concurrent."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory) / "nats") as server:
            ready, stop = spawn.Event(), spawn.Event()
            arguments = (server.url, Path(directory) / "read.sqlite", ready, stop)
            process = spawn.Process(target=serve, args=arguments)
            process.start()
            await asyncio.to_thread(ready.wait, 30)
            async with _client(server.url) as client:
                queries = QueryClient(client, SUBJECTS)
                for name, query in (("flake.get", _get), ("flake.list, 50 items", _list)):
                    for max_concurrency in (1, 16):
                        rate, median, high = await _ask(queries, query, max_concurrency)
                        print(
                            f"{name}, {max_concurrency} in flight: {rate:,.0f}/s, "
                            f"p50 {median:.1f} ms, p99 {high:.1f} ms"
                        )
            stop.set()
            await asyncio.to_thread(process.join, 30)


def main() -> None:
    """Run the benchmark."""
    run(measure())


if __name__ == "__main__":
    main()
