"""Catching up: a log of events becomes rows and checkpoints in SQLite."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
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
from projections.audit import audit
from projections.database import Database
from projections.nix import nix_projections
from projections.projection import Projection
from projections.worker import ProjectionWorker
from tests.bench.loop import run
from tests.bench.store import event

FLAKES = 2_000
INPUTS = 9
END = FLAKES * (INPUTS + 1)


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
                for what, projections in (
                    ("five projections", nix_projections()),
                    ("the same and the audit index", (*nix_projections(), audit)),
                ):
                    path = Path(directory) / f"{len(projections)}.sqlite"
                    rate = END / await _catch_up(store, path, projections)
                    print(f"{what} catch up on {END:,} events: {rate:,.0f} events/s")


async def _catch_up(store: EventStore, path: Path, projections: Sequence[Projection]) -> float:
    """Seconds until the rows of a new database reflect the log."""
    async with Database(path) as database:
        await database.migrate()
        worker = ProjectionWorker(store, database, projections)
        began = time.perf_counter()
        async with running(worker):
            await worker.wait(END, timeout=120)
            return time.perf_counter() - began


def main() -> None:
    """Run it."""
    run(measure())


if __name__ == "__main__":
    main()
