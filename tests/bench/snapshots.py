"""Loading a long-lived aggregate: all its events, or its snapshot and the events since."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from eventstore import nix
from eventstore.client.client import connect
from eventstore.commands.loader import Loader
from eventstore.config import load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from tests.bench.report import Measurement, collected
from tests.bench.size import sized

EVENTS = sized(10_000, 2_000)
SINCE = 50
BATCH = 1_000
LOADS = 20


async def _fill(store: EventStore, count: int) -> None:
    """Each event has its own correlation, as if each came from its own command."""
    for begin in range(0, count, BATCH):
        events = [
            nix.ModuleUpdated(content=f"{number} {'x' * 200}")
            for number in range(begin, min(begin + BATCH, count))
        ]
        await store.append("module", "m", events)


async def _milliseconds(loader: Loader) -> float:
    """The median of several loads."""
    decider = nix.domain().decider("module")
    seconds = []
    for _ in range(LOADS):
        began = time.perf_counter()
        cached = await loader.load(decider, "m")
        seconds.append(time.perf_counter() - began)
        assert cached.head.version == EVENTS + SINCE
    return statistics.median(seconds) * 1000


async def measure() -> AsyncIterator[Measurement]:
    """A load without a snapshot, and one with it."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with (
            EmbeddedServer(Path(directory)) as server,
            connect(load_settings(nats_url=server.url, environ={})) as client,
            EventStore(client, codec) as store,
            Snapshots(client, store) as snapshots,
        ):
            await declare(client, topology(codec.subjects, load_settings(environ={}).streams))
            await store.append("module", "m", nix.ModuleCreated(name="m", content=""))
            await _fill(store, EVENTS - 1)
            with_snapshots = Loader(store, snapshots)
            await with_snapshots.load(nix.domain().decider("module"), "m")
            await snapshots.drain(10)
            await _fill(store, SINCE)
            full = await _milliseconds(Loader(store, None))
            short = await _milliseconds(with_snapshots)
    yield Measurement(name=f"load {EVENTS + SINCE:,} events", p50=full)
    faster = f"{full / short:,.0f} times faster"
    yield Measurement(name=f"load a snapshot and {SINCE} events", p50=short, note=faster)


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
