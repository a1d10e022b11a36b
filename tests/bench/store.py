"""Appending and reading, alternating with plain nats-py on the same server."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import nats
import nats.aio.client
from nats.js.api import AckPolicy, ConsumerConfig

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.client.client import Client
from eventstore.server.embedded import EmbeddedServer
from tests.bench.cpu import Meter
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.turns import Comparison, in_turns

EACH = sized(4_000, 1_000)
SLICE = 200
SLICES = {1: sized(20, 4), 64: sized(40, 10)}
BATCHES = {10: 20, 100: 5, 1000: 2}  # in a slice, by their size
BATCH_SLICES = sized(16, 4)
BARE = {"name": "BARE", "subjects": ["bare.*"], "allow_atomic": True}
BARE_BATCH = "bare nats-py, as many headers"
BARE_HEADERS = [f"X-Header-{number}" for number in range(11)]  # an event has 12, and the guard
GUARD = "Nats-Expected-Last-Subject-Sequence"
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

    async def bare_publish(part: int) -> float:
        async def publish(number: int) -> None:
            headers = _bare_headers() | {GUARD: "0"}
            subject = f"bare.{max_concurrency}-{part}-{number}"
            await stream.publish(subject, payload, headers=headers)

        return await _rate(SLICE, publish, max_concurrency)

    async def append(part: int) -> float:
        async def append_one(number: int) -> None:
            name = f"single-{max_concurrency}-{part}-{number}"
            await store.append("flake", name, event(number), expected=NO_STREAM)

        return await _rate(SLICE, append_one, max_concurrency)

    return await in_turns(append, bare_publish, SLICES[max_concurrency], meter)


async def _append_batches(
    store: EventStore, plain: nats.aio.client.Client, meter: Meter, size: int
) -> Comparison:
    """Batches one after another, and the same on a connection of nats-py itself."""
    events = [event(number) for number in range(size)]
    payloads = [nix.domain().codec.encode(each) for each in events]

    async def append(part: int) -> float:
        async def append_one(number: int) -> None:
            name = f"batch-{size}-{part}-{number}"
            await store.append("flake", name, events, expected=NO_STREAM)

        return size * await _rate(BATCHES[size], append_one)

    async def bare_batches(part: int) -> float:
        async def publish(number: int) -> None:
            await _publish_batch(plain, f"bare.{size}-{part}-{number}", payloads)

        return size * await _rate(BATCHES[size], publish)

    return await in_turns(append, bare_batches, BATCH_SLICES, meter)


async def _publish_batch(
    connection: nats.aio.client.Client, subject: str, payloads: list[bytes]
) -> None:
    """An atomic batch by hand, with as many headers as an event of the store has."""
    batch = str(uuid.uuid4())
    for number, payload in enumerate(payloads, start=1):
        headers = _bare_headers()
        headers["Nats-Batch-Id"] = batch
        headers["Nats-Batch-Sequence"] = str(number)
        if number == 1:
            headers[GUARD] = "0"
        if number < len(payloads):
            await connection.publish(subject, payload, headers=headers)
            continue
        headers["Nats-Batch-Commit"] = "1"
        answer = await connection.request(subject, payload, headers=headers, timeout=5)
        assert json.loads(answer.data).get("count") == len(payloads), answer.data


def _bare_headers() -> dict[str, str]:
    """As many headers as an event of the store has, with the one by which the server knows it."""
    return dict.fromkeys(BARE_HEADERS, "0" * 36) | {"Nats-Msg-Id": str(uuid.uuid4())}


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
        async for _event in store.read("flake", "batch-10-0-0"):
            pass

    return await _rate(EACH, read, 64)


async def _metered(name: str, meter: Meter, items: int, rate: Awaitable[float]) -> Measurement:
    before, own = meter.read(), await rate
    cpu = {role: used / items / 1_000 for role, used in meter.since(before).items()}
    return Measurement(name=name, rate=own, cpu=cpu)


def _beside(name: str, limit: str, both: Comparison, items: int) -> Measurement:
    """Appends and their limit, with the CPU of that as well."""
    used = (f"{role} {spent / items / 1_000:,.0f}" for role, spent in both.bare_cpu.items())
    found = Measurement.beside(name, limit, both, items)
    return msgspec.structs.replace(found, note=f"CPU µs beside it: {', '.join(used)}")


async def measure() -> AsyncIterator[Measurement]:
    """Each way of writing and reading."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                await client.api("STREAM.CREATE.BARE", BARE)
                meter = Meter(server=server.pid)
                for max_concurrency in SLICES:
                    name = f"append one event, {max_concurrency} at a time"
                    both = await _append(store, client, meter, max_concurrency)
                    yield _beside(name, "js.publish, as many headers", both, SLICE)
                plain = await nats.connect(server.url)
                for size, count in BATCHES.items():
                    both = await _append_batches(store, plain, meter, size)
                    yield _beside(f"append batches of {size}", BARE_BATCH, both, size * count)
                await plain.close()
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
