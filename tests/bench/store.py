"""Appending and reading, alternating with plain nats-py on the same server."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from nats.js.api import AckPolicy, ConsumerConfig

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.client.client import Client
from eventstore.server.embedded import EmbeddedServer
from tests.bench.cpu import Meter
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.turns import Comparison, in_turns

EVENTS = sized(20_000, 4_000)
EACH = sized(4_000, 1_000)
SLICE = 200
SLICES = {1: sized(20, 4), 64: sized(40, 10)}
READS = sized(5, 3)


def event(number: int) -> nix.FlakeInputAdded:
    """An event of about 100 bytes."""
    return nix.FlakeInputAdded(name=f"input-{number}", url=f"github:owner/repository/{number:040}")


async def _rate(
    count: int, work: Callable[[int], Awaitable[object]], max_concurrency: int = 1
) -> float:
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for number in numbers:
            await work(number)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(max_concurrency)))
    return count / (time.perf_counter() - began)


async def _append(
    store: EventStore, client: Client, meter: Meter, max_concurrency: int
) -> Comparison:
    stream = client.nats.jetstream()
    payload = nix.domain().codec.encode(event(1))
    headers = {f"X-Header-{number}": "0" * 36 for number in range(10)}

    async def bare_publish(_: int) -> float:
        async def publish(number: int) -> None:
            await stream.publish(f"bare.{number}", payload, headers=dict(headers))

        return await _rate(SLICE, publish, max_concurrency)

    async def append(part: int) -> float:
        async def append_one(number: int) -> None:
            name = f"single-{max_concurrency}-{part}-{number}"
            await store.append("flake", name, event(number), expected=NO_STREAM)

        return await _rate(SLICE, append_one, max_concurrency)

    return await in_turns(append, bare_publish, SLICES[max_concurrency], meter)


async def _append_batches(store: EventStore, size: int) -> float:
    async def append(number: int) -> None:
        events = [event(each) for each in range(size)]
        await store.append("flake", f"batch-{size}-{number}", events, expected=NO_STREAM)

    return size * await _rate(_batches(size), append)


def _batches(size: int) -> int:
    return max(2, EVENTS // 4 // size)


async def _read(store: EventStore, client: Client, meter: Meter) -> Comparison:
    return await in_turns(lambda _: _read_all(store), lambda _: _bare_fetch(client), READS, meter)


async def _read_all(store: EventStore) -> float:
    count, began = 0, time.perf_counter()
    async for page in store.pages():
        count += len(page.events)
    return count / (time.perf_counter() - began)


async def _bare_fetch(client: Client) -> float:
    stream = client.nats.jetstream()
    unacknowledged = ConsumerConfig(ack_policy=AckPolicy.NONE)
    pull = await stream.pull_subscribe("nix.log.*.*", stream="NIX_LOG", config=unacknowledged)
    pending = (await pull.consumer_info()).num_pending or 0
    count, began = 0, time.perf_counter()
    while count < pending:
        count += len(await pull.fetch(min(1000, pending - count)))
    return count / (time.perf_counter() - began)


async def _read_aggregates(store: EventStore) -> float:
    async def read(_: int) -> None:
        async for _event in store.read("flake", "batch-10-0"):
            pass

    return await _rate(EACH, read, 64)


async def _metered(name: str, meter: Meter, items: int, rate: Awaitable[float]) -> Measurement:
    before, own = meter.read(), await rate
    cpu = {role: used / items / 1_000 for role, used in meter.since(before).items()}
    return Measurement(name=name, rate=own, cpu=cpu)


async def measure() -> AsyncIterator[Measurement]:
    """Each way of writing and reading."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                await client.api("STREAM.CREATE.BARE", {"name": "BARE", "subjects": ["bare.*"]})
                meter = Meter(server=server.pid)
                for max_concurrency in SLICES:
                    name = f"append one event, {max_concurrency} at a time"
                    both = await _append(store, client, meter, max_concurrency)
                    yield Measurement.beside(name, "bare publish, 10 headers", both, SLICE)
                for size in (10, 100, 1000):
                    name, count = f"append batches of {size}", size * _batches(size)
                    yield await _metered(name, meter, count, _append_batches(store, size))
                count = (await client.api("STREAM.INFO.NIX_LOG"))["state"]["messages"]
                both = await _read(store, client, meter)
                yield Measurement.beside("read_all, checked and decoded", "bare fetch", both, count)
                name = "load aggregates of 10 events, 64 at a time"
                loads = await _metered(name, meter, EACH, _read_aggregates(store))
                yield msgspec.structs.replace(loads, unit="loads")


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
