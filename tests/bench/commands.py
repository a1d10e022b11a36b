"""Commands end to end: client, worker and server as three processes, durable, 64 in flight."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes, StateCache
from eventstore.config import StreamSettings, load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.bench.loop import run

COMMANDS = 20_000
AGGREGATES = 500
IN_FLIGHT = 64


def work(url: str, cache_size: int, ready: Event, stop: Event) -> None:
    """The worker process."""
    run(_work(url, cache_size, ready, stop))


async def _work(url: str, cache_size: int, ready: Event, stop: Event) -> None:
    domain = nix.domain()
    async with _client(url) as client, EventStore(client, domain.codec) as store:
        outcomes = Outcomes(client, domain.codec.subjects)
        handler = CommandHandler(store, domain, outcomes, states=StateCache(cache_size))
        worker = CommandWorker(client, domain.codec, handler)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await worker.ready.wait()
            ready.set()
            await asyncio.to_thread(stop.wait)
            worker.stop()


def _client(url: str) -> Client:
    return connect(load_settings(nats_url=url, environ={}))


async def _execute_all(url: str) -> tuple[float, list[float]]:
    latencies: list[float] = []
    numbers = iter(range(COMMANDS))
    async with _client(url) as client, CommandClient(client, nix.domain().codec) as commands:
        for number in range(AGGREGATES):
            await commands.execute(nix.CreateModule(name="m", content=""), f"m{number}")

        async def one_after_another() -> None:
            for number in numbers:
                began = time.perf_counter()
                outcome = await commands.execute(
                    nix.UpdateModule(content=str(number)), f"m{number % AGGREGATES}", timeout=60
                )
                latencies.append(time.perf_counter() - began)
                assert outcome.status == "success"

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        return COMMANDS / (time.perf_counter() - began), latencies


async def measure(cache_size: int) -> tuple[float, float, float]:
    """Commands a second, and the median and 99th percentile in milliseconds."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            async with _client(server.url) as client:
                await declare(client, topology(nix.domain().codec.subjects, _streams()))
            ready, stop = spawn.Event(), spawn.Event()
            process = spawn.Process(target=work, args=(server.url, cache_size, ready, stop))
            process.start()
            await asyncio.to_thread(ready.wait, 30)
            rate, latencies = await _execute_all(server.url)
            stop.set()
            await asyncio.to_thread(process.join, 30)
    cuts = statistics.quantiles(latencies, n=100)
    return rate, cuts[49] * 1000, cuts[98] * 1000


def _streams() -> StreamSettings:
    return load_settings(environ={}).streams


def main() -> None:
    """Print a line with cached states, and one with a load for each command."""
    for name, cache_size in (("cached states", 200_000), ("a load for each command", 0)):
        rate, median, high = run(measure(cache_size))
        print(f"{name}: {rate:,.0f} commands/s, p50 {median:.1f} ms, p99 {high:.1f} ms")


if __name__ == "__main__":
    main()
