"""Catching up: a log of events becomes rows and checkpoints in SQLite."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from eventstore import (
    NO_STREAM,
    EventStore,
    connect,
    declare,
    load_settings,
    nix,
    running,
    topology,
)
from eventstore.server import EmbeddedServer
from projections.database import Database
from projections.nix import nix_projections
from projections.worker import ProjectionWorker
from tests.bench.loop import run
from tests.bench.store import event

FLAKES = 2_000
INPUTS = 9


async def measure() -> None:
    """Print how fast the read models of the Nix domain catch up."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                for number in range(FLAKES):
                    created = nix.FlakeCreated(path=f"./{number}", description="")
                    events = [created, *(event(each) for each in range(INPUTS))]
                    await store.append("flake", f"f{number}", events, expected=NO_STREAM)
                async with Database(Path(directory) / "read.sqlite") as database:
                    await database.migrate()
                    worker = ProjectionWorker(store, database, nix_projections())
                    began = time.perf_counter()
                    async with running(worker):
                        await worker.wait(FLAKES * (INPUTS + 1), timeout=120)
                        seconds = time.perf_counter() - began
    rate = FLAKES * (INPUTS + 1) / seconds
    print(f"five projections catch up on {FLAKES * (INPUTS + 1):,} events: {rate:,.0f} events/s")


def main() -> None:
    """Run it."""
    run(measure())


if __name__ == "__main__":
    main()
