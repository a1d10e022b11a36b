"""Cold loads and memory: what smaller blocks, a warm cache and GOMEMLIMIT change.

Servers with the same events in different configurations; loads alternate between them, each after a
pause in which nats-server has dropped its cache of blocks. `python -m tests.bench.cold --help`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

from eventstore import EventStore, connect, load_settings, nix, topology
from eventstore.commands.loader import Loader
from eventstore.server.embedded import EmbeddedServer
from eventstore.server.memory import VARIABLE
from tests.bench.cpu import cpu_nanoseconds, memory
from tests.bench.report import Measurement, collected
from tests.bench.scale import EACH, ENCRYPTED, Log

PAUSE = 13.0
"""Seconds: nats-server drops a block that was not used for 10."""


class Variant(NamedTuple):
    """A configuration: its name, lines of the jetstream block, GOMEMLIMIT, and the log's own."""

    name: str
    config: str = ""
    limit: str = "off"
    most_of_a_subject: int = -1


VARIANTS = (
    Variant("blocks of 8 MB"),
    Variant("blocks of 8 MB, GOMEMLIMIT=128MiB", limit="128MiB"),
    Variant("a limit for each subject, blocks of 4 MB", most_of_a_subject=1_000_000_000),
    Variant("encrypted, blocks of 2 MB", config=ENCRYPTED),
)


class Loads:
    """Loads from one server: milliseconds, and those of the server's CPU."""

    def __init__(self, loader: Loader, pid: int) -> None:
        self._loader = loader
        self._decider = nix.domain().decider("module")
        self.pid = pid
        self.cold: list[tuple[float, float]] = []
        self.warm: list[tuple[float, float]] = []

    async def load(self, aggregate_id: str) -> None:
        """Load an aggregate, and load it again."""
        for found in (self.cold, self.warm):
            used, began = cpu_nanoseconds(self.pid), time.perf_counter()
            await self._loader.load(self._decider, aggregate_id)
            seconds = time.perf_counter() - began
            found.append((seconds * 1_000, (cpu_nanoseconds(self.pid) - used) / 1e6))


async def _filled(
    stack: AsyncExitStack, variant: Variant, events: int
) -> tuple[Loads, Measurement]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = EmbeddedServer(directory, jetstream_config=variant.config)
    with patch.dict(os.environ, {VARIABLE: variant.limit}):
        await stack.enter_async_context(server)
    settings, codec = load_settings(nats_url=server.url, environ={}), nix.domain().codec
    client = await stack.enter_async_context(connect(settings))
    store = await stack.enter_async_context(EventStore(client, codec, cache_bytes=events << 10))
    log = topology(codec.subjects, settings.streams)[0]
    request = {**log.request, "max_msgs_per_subject": variant.most_of_a_subject}
    await client.api(f"STREAM.CREATE.{log.name}", request)
    assert server.pid is not None
    used, began = cpu_nanoseconds(server.pid), time.perf_counter()
    await Log(store, events).fill()
    cpu = (cpu_nanoseconds(server.pid) - used) / events / 1_000
    peak = memory(server.pid, peak=True)
    measurement = Measurement(
        name=f"append {events:,} events, {variant.name}",
        rate=events / (time.perf_counter() - began),
        cpu={"server": cpu},
        note=f"nats-server {memory(server.pid):.0f} MB, {peak:.0f} at its highest",
    )
    return Loads(Loader(store, None), server.pid), measurement


async def measure(events: int, loads: int) -> AsyncIterator[Measurement]:
    """Fill each server, load from all in turns, cold and warm."""
    async with AsyncExitStack() as stack:
        found: dict[Variant, Loads] = {}
        for variant in VARIANTS:
            found[variant], measurement = await _filled(stack, variant, events)
            yield measurement
        for _ in range(loads):
            await asyncio.sleep(PAUSE)
            aggregate_id = f"m{random.randrange(events // EACH)}"  # noqa: S311
            for each in found.values():
                await each.load(aggregate_id)
        for variant, each in found.items():
            yield _measured(f"load 10 events, cold, {variant.name}", each.cold)
            yield _measured(f"load 10 events, warm, {variant.name}", each.warm)


def _measured(name: str, loads: list[tuple[float, float]]) -> Measurement:
    milliseconds, cpu = zip(*loads, strict=True)
    return Measurement(
        name=name,
        unit="loads",
        cpu={"server": median(cpu) * 1_000},
        p50=median(milliseconds),
        note=f"{max(milliseconds):.0f} ms at most, of {len(loads)}",
    )


def main() -> list[Measurement]:
    """Read the arguments and run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="in each log")
    parser.add_argument("--loads", type=int, default=20, help="from each, cold and warm")
    given = parser.parse_args()
    return collected(measure(given.events, given.loads))


if __name__ == "__main__":
    main()
