"""Live latency: from an append's acknowledgement until another connection sees its rows.

Three processes: one appends at a fixed rate, one runs the projection worker, and one reads the
checkpoints, through a connection of its own, about every half millisecond.
"""

from __future__ import annotations

import asyncio
import bisect
import multiprocessing
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Any

from eventstore import EventStore, connect, declare, load_settings, nix, running, topology
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from projections import nix_migrations, nix_projections
from tests.bench.backlog import peak_memory
from tests.bench.loop import run
from tests.bench.report import Measurement, collected
from tests.bench.size import sized

RATE = 500
SECONDS = sized(20, 4)
HISTORY = sized(200_000, 20_000)
PAUSE = 0.0005

Seen = list[tuple[float, int]]
"""The time at which the lowest checkpoint was first seen at each position."""


def work(url: str, database: str, pipe: Connection) -> None:
    """The worker process, until it is stopped."""
    run(_work(url, database, pipe))


async def _work(url: str, location: str, pipe: Connection) -> None:
    codec = nix.domain().codec
    settings = load_settings(nats_url=url, environ={})
    async with (
        connect(settings) as client,
        EventStore(client, codec) as store,
        Database(location, migrations=nix_migrations()) as database,
    ):
        await database.migrate()
        worker = ProjectionWorker(store, database, nix_projections())
        before = peak_memory()
        async with running(worker):
            await worker.ready.wait()
            pipe.send(None)
            await asyncio.to_thread(pipe.recv)
        pipe.send((before, peak_memory()))


def look(database: str, pipe: Connection) -> None:
    """The reader process, until it is stopped."""
    seen: Seen = []
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        query = "SELECT min(position) FROM eventstore_projection"
        last = connection.execute(query).fetchone()[0]
        pipe.send(None)
        stopping = False
        while not stopping:
            stopping = pipe.poll()
            position = connection.execute(query).fetchone()[0]
            if position != last:
                seen.append((time.monotonic(), position))
                last = position
            time.sleep(PAUSE)
    pipe.send(seen)


async def _append(store: EventStore) -> Seen:
    """The time at which the append of each position was acknowledged."""
    acknowledged: Seen = []
    began = time.monotonic()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        event = nix.ModuleCreated(name="m", content=f"{number}")
        appended = await store.append("module", f"live{number}", event)
        acknowledged.append((time.monotonic(), appended.position))
    return acknowledged


async def _fill(store: EventStore) -> None:
    for number in range(HISTORY // 1_000):
        created = nix.ModuleCreated(name="m", content="")
        updates = [nix.ModuleUpdated(content=f"{each}") for each in range(999)]
        await store.append("module", f"m{number}", [created, *updates])


async def measure() -> AsyncIterator[Measurement]:
    """Catch up on a history, then follow what is appended."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        location = str(Path(directory) / "read.sqlite")
        async with EmbeddedServer(Path(directory) / "nats") as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                await _fill(store)
                worker = await _started(work, server.url, location)
                began = time.perf_counter()
                await asyncio.to_thread(_until_at, location, HISTORY)
                rate = HISTORY / (time.perf_counter() - began)
                reader = await _started(look, location)
                acknowledged = await _append(store)
                await asyncio.to_thread(_until_at, location, acknowledged[-1][1])
                seen, (before, after) = await _ended(reader), await _ended(worker)
    yield Measurement(
        name=f"catch up on {HISTORY:,} events",
        rate=rate,
        note=f"worker's peak memory {before:.0f} MB before, {after:.0f} MB after",
    )
    yield _latencies(acknowledged, seen)


async def _started(target: Callable[..., None], *args: str) -> Connection:
    """A process that has reported that it is ready."""
    spawn = multiprocessing.get_context("spawn")
    own, others = spawn.Pipe()
    spawn.Process(target=target, args=(*args, others), daemon=True).start()
    await asyncio.to_thread(own.recv)
    return own


async def _ended(process: Connection) -> Any:
    """The result that a process sends at its end."""
    process.send(None)
    return await asyncio.to_thread(process.recv)


def _until_at(location: str, position: int) -> None:
    with closing(sqlite3.connect(location, isolation_level=None)) as connection:
        query = "SELECT min(position) FROM eventstore_projection"
        while connection.execute(query).fetchone()[0] < position:
            time.sleep(0.01)


def _latencies(acknowledged: Seen, seen: Seen) -> Measurement:
    """From the acknowledgement until another process sees the rows."""
    positions = [position for _, position in seen]
    latencies = []
    for when, position in acknowledged:
        visible, _ = seen[bisect.bisect_left(positions, position)]
        latencies.append(1_000 * max(0.0, visible - when))
    hundredths = quantiles(latencies, n=100)
    return Measurement(
        name=f"from an append's acknowledgement to its rows, {RATE} events/s",
        p50=hundredths[49],
        p99=hundredths[98],
        note=f"{max(latencies):.0f} ms at most; {len(seen):,} commits seen",
    )


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
