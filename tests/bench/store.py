"""Appending and reading, each beside what nats-py does bare on the same server in the same run."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nats.js.api import AckPolicy, ConsumerConfig

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.client import Client
from eventstore.server import EmbeddedServer
from tests.bench.loop import run

EVENTS = 20_000
EACH = 4_000


def event(number: int) -> nix.FlakeInputAdded:
    """An event of about 100 bytes."""
    return nix.FlakeInputAdded(name=f"input-{number}", url=f"github:owner/repository/{number:040}")


async def _rate(count: int, work: Callable[[int], Awaitable[object]], at_once: int = 1) -> float:
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for number in numbers:
            await work(number)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return count / (time.perf_counter() - began)


async def _bare_publish(client: Client, at_once: int) -> float:
    stream = client.nats.jetstream()
    payload = nix.domain().codec.encode(event(1))
    headers = {f"X-Header-{number}": "0" * 36 for number in range(10)}

    async def publish(number: int) -> None:
        await stream.publish(f"bare.{number}", payload, headers=dict(headers))

    return await _rate(EACH, publish, at_once)


async def _append(store: EventStore, name: str, at_once: int) -> float:
    async def append(number: int) -> None:
        await store.append("flake", f"{name}-{number}", event(number), expected=NO_STREAM)

    return await _rate(EACH, append, at_once)


async def _append_batches(store: EventStore, size: int) -> float:
    async def append(number: int) -> None:
        events = [event(each) for each in range(size)]
        await store.append("flake", f"batch-{size}-{number}", events, expected=NO_STREAM)

    return size * await _rate(max(2, EVENTS // 4 // size), append)


async def _read_all(store: EventStore) -> float:
    count, began = 0, time.perf_counter()
    async for page in store.pages():
        count += len(page.events)
    return count / (time.perf_counter() - began)


async def _bare_fetch(client: Client) -> float:
    stream = client.nats.jetstream()
    unacknowledged = ConsumerConfig(ack_policy=AckPolicy.NONE)
    pull = await stream.pull_subscribe("nix.log.*.*", stream="NIX_LOG", config=unacknowledged)
    pending = (await pull.consumer_info()).num_pending
    count, began = 0, time.perf_counter()
    while count < pending:
        count += len(await pull.fetch(min(1000, pending - count)))
    return count / (time.perf_counter() - began)


async def _read_aggregates(store: EventStore) -> float:
    async def read(_: int) -> None:
        async for _event in store.read("flake", "batch-10-0"):
            pass

    return await _rate(EACH, read, 64)


def _line(what: str, rate: float, bare: float | None = None) -> None:
    ratio = "" if bare is None else f"   {rate / bare:5.2f} x bare nats-py ({bare:,.0f}/s)"
    print(f"{what:48} {rate:10,.0f}/s{ratio}")


async def measure() -> None:
    """Print a line for each way of writing and reading."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                await client.api("STREAM.CREATE.BARE", {"name": "BARE", "subjects": ["bare.*"]})
                for at_once in (1, 64):
                    bare = await _bare_publish(client, at_once)
                    rate = await _append(store, f"single-{at_once}", at_once)
                    _line(f"append one event, {at_once} at a time", rate, bare)
                for size in (10, 100, 1000):
                    _line(f"append batches of {size}, events", await _append_batches(store, size))
                _line(
                    "read_all, checked and decoded",
                    await _read_all(store),
                    await _bare_fetch(client),
                )
                _line("read aggregates of 10 events, 64 at a time", await _read_aggregates(store))


def main() -> None:
    """Run it."""
    run(measure())


if __name__ == "__main__":
    main()
