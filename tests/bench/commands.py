"""Commands end to end: client, worker and server as three processes, durable, 64 in flight."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from multiprocessing.synchronize import Event
from pathlib import Path

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes, StateCache
from eventstore.commands.state_cache import MAX_BYTES
from eventstore.config import StreamSettings, load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.bench.cpu import Meter
from tests.bench.loop import run
from tests.bench.report import Measurement, collected
from tests.bench.size import sized

COMMANDS = sized(20_000, 2_000)
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


async def _execute_all(url: str, name: str, meter: Meter) -> Measurement:
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

        before, began = meter.read(), time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        seconds, used = time.perf_counter() - began, meter.since(before)
    cuts = statistics.quantiles(latencies, n=100)
    return Measurement(
        name=name,
        unit="commands",
        rate=COMMANDS / seconds,
        cpu={role: nanoseconds / COMMANDS / 1_000 for role, nanoseconds in used.items()},
        p50=cuts[49] * 1_000,
        p99=cuts[98] * 1_000,
    )


async def _measure(name: str, cache_size: int) -> Measurement:
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            async with _client(server.url) as client:
                await declare(client, topology(nix.domain().codec.subjects, _streams()))
            ready, stop = spawn.Event(), spawn.Event()
            process = spawn.Process(target=work, args=(server.url, cache_size, ready, stop))
            process.start()
            await asyncio.to_thread(ready.wait, 30)
            meter = Meter(worker=process.pid, server=server.pid)
            measurement = await _execute_all(server.url, name, meter)
            stop.set()
            await asyncio.to_thread(process.join, 30)
    return measurement


def _streams() -> StreamSettings:
    return load_settings(environ={}).streams


async def measure() -> AsyncIterator[Measurement]:
    """Commands with cached states, and with a load for each command."""
    worker = f"commands, a worker alone, {IN_FLIGHT} in flight"
    yield await _measure(f"{worker}, cached states", MAX_BYTES)
    yield await _measure(f"{worker}, a load for each", 0)


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
