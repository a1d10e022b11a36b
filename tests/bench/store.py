"""Appending and reading, alternating with plain nats-py on the same server."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nats.js.api import AckPolicy, ConsumerConfig

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.client.client import Client
from eventstore.server.embedded import EmbeddedServer
from tests.bench.loop import run
from tests.bench.turns import Comparison, in_turns

EVENTS = 20_000
EACH = 4_000
SLICE = 200
SLICES = {1: 20, 64: 40}
READS = 5


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


async def _append(store: EventStore, client: Client, max_concurrency: int) -> Comparison:
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

    return await in_turns(append, bare_publish, SLICES[max_concurrency])


async def _append_batches(store: EventStore, size: int) -> float:
    async def append(number: int) -> None:
        events = [event(each) for each in range(size)]
        await store.append("flake", f"batch-{size}-{number}", events, expected=NO_STREAM)

    return size * await _rate(max(2, EVENTS // 4 // size), append)


async def _read(store: EventStore, client: Client) -> Comparison:
    return await in_turns(lambda _: _read_all(store), lambda _: _bare_fetch(client), READS)


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


def _line(what: str, rate: float) -> None:
    print(f"{what:48} {rate:10,.0f}/s")


def _comparison_line(what: str, both: Comparison) -> None:
    ratio = f"{both.ratio:5.2f} x plain nats-py ({both.bare:,.0f}/s)"
    print(f"{what:48} {both.rate:10,.0f}/s   {ratio}")


async def measure() -> None:
    """Print a line for each way of writing and reading."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                await client.api("STREAM.CREATE.BARE", {"name": "BARE", "subjects": ["bare.*"]})
                for max_concurrency in SLICES:
                    what = f"append one event, {max_concurrency} at a time"
                    _comparison_line(what, await _append(store, client, max_concurrency))
                for size in (10, 100, 1000):
                    _line(f"append batches of {size}, events", await _append_batches(store, size))
                _comparison_line("read_all, checked and decoded", await _read(store, client))
                _line("read aggregates of 10 events, 64 at a time", await _read_aggregates(store))


def main() -> None:
    """Run the benchmark."""
    run(measure())


if __name__ == "__main__":
    main()
