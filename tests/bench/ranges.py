"""Replaying by one process, alternating with two over disjoint ranges, and the CPU it takes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.server.embedded import EmbeddedServer
from tests.bench.loop import run
from tests.bench.store import event
from tests.bench.turns import in_turns

AGGREGATES = 1_000
EACH = 50
EVENTS = AGGREGATES * EACH
SLICES = 5


class Slice(NamedTuple):
    """CPU of a slice, in microseconds an event."""

    readers: float
    server: float


async def _replay(url: str, after: int, count: int) -> float:
    """Read events and do nothing with them; the CPU seconds that took."""
    settings = load_settings(nats_url=url, environ={})
    async with connect(settings) as client, EventStore(client, nix.domain().codec) as store:
        began, seen = time.process_time(), 0
        async with aclosing(store.pages(after=after)) as pages:
            async for page in pages:
                seen += len(page.events)
                if seen >= count:
                    break
        return time.process_time() - began


def _range(url: str, after: int, count: int) -> float:
    return run(_replay(url, after, count))


def _cpu(pid: int) -> float:
    """The CPU seconds of a process so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _replaying(
    pool: Executor, server: EmbeddedServer, processes: int, slices: list[Slice]
) -> Callable[[int], asyncio.Future[float]]:
    async def replay(_: int) -> float:
        share = EVENTS // processes
        loop = asyncio.get_running_loop()
        before, began = _cpu(server.pid or 0), time.perf_counter()
        ranges = [(server.url, number * share, share) for number in range(processes)]
        used = await asyncio.gather(*(loop.run_in_executor(pool, _range, *each) for each in ranges))
        seconds = time.perf_counter() - began
        served = _cpu(server.pid or 0) - before
        slices.append(Slice(sum(used) / EVENTS * 1e6, served / EVENTS * 1e6))
        return EVENTS / seconds

    return lambda number: asyncio.ensure_future(replay(number))


async def _fill(store: EventStore) -> None:
    numbers = iter(range(AGGREGATES))

    async def append_next() -> None:
        for number in numbers:
            created = nix.FlakeCreated(path=f"./{number}", description="")
            events = [created, *(event(each) for each in range(EACH - 1))]
            await store.append("flake", f"f{number}", events, expected=NO_STREAM)

    await asyncio.gather(*(append_next() for _ in range(16)))


async def measure() -> None:
    """Print the rate of both, and what an event costs."""
    codec = nix.domain().codec
    spawning = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(2, mp_context=spawning) as pool,
    ):
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                await _fill(store)
            cpu: dict[int, list[Slice]] = {1: [], 2: []}
            one, two = (_replaying(pool, server, count, cpu[count]) for count in cpu)
            await two(0)  # starts both processes
            cpu[2].clear()
            compared = await in_turns(two, one, SLICES)
    print(f"replay of {EVENTS:,} events, one process: {compared.bare:,.0f} events/s")
    print(f"two, each half of them: {compared.rate:,.0f} events/s, {compared.ratio:.2f} x")
    for count, slices in cpu.items():
        readers, served = (median(each) for each in zip(*slices, strict=True))
        print(f"{count}: {readers:.1f} us of CPU an event, the server {served:.1f} us")


def main() -> None:
    """Run the benchmark."""
    run(measure())


if __name__ == "__main__":
    main()
