"""What durability costs: appends at one and at three replicas, flushed at once or later.

Four logs on real disks, of which each is written in turns with the others, so that what else the
machine does slows all of them; the ratios are medians of turns. The three servers of a cluster are
on this machine, share its disk, and reach each other without a network.
`python -m tests.bench.durability --help`
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eventstore import Client, EventStore, connect, declare, load_settings, nix, topology
from eventstore.config import StreamSettings
from eventstore.errors import ClientError, TopologyError
from eventstore.jetstream.topology import StreamSpec
from eventstore.server.embedded import EmbeddedServer
from tests.ports import free_ports

ALWAYS = "sync_interval: always"
_START_SECONDS = 60.0
_AT_ONCE = 64


class Variant(NamedTuple):
    """A configuration: how many replicas, and what the block `jetstream` has."""

    replicas: int
    sync: str

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.replicas}, {'always' if self.sync else 'every 2 minutes'}"


VARIANTS = (Variant(1, ""), Variant(1, ALWAYS), Variant(3, ""), Variant(3, ALWAYS))


class Work(NamedTuple):
    """A way to append: what it is called, and what appends for some seconds."""

    name: str
    run: Callable[[EventStore, float], Awaitable[int]]


async def _singles(store: EventStore, seconds: float) -> int:
    """One event after another; returns how many."""
    return await _appended(store, seconds, events=1)


async def _concurrent(store: EventStore, seconds: float) -> int:
    tasks = (_appended(store, seconds, events=1) for _ in range(_AT_ONCE))
    return sum(await asyncio.gather(*tasks))


async def _batches(store: EventStore, seconds: float) -> int:
    return await _appended(store, seconds, events=10)


async def _appended(store: EventStore, seconds: float, *, events: int) -> int:
    count, end = 0, time.perf_counter() + seconds
    aggregate_id = f"m{time.perf_counter_ns()}-{id(asyncio.current_task())}"
    data = [nix.ModuleCreated(name="m", content="0")] * events
    while time.perf_counter() < end:
        await store.append("module", aggregate_id, data)
        count += events
    return count


WORKS = (
    Work("one after another", _singles),
    Work(f"{_AT_ONCE} at once", _concurrent),
    Work("batches of 10", _batches),
)


async def _servers(stack: AsyncExitStack, folder: Path, variant: Variant) -> EmbeddedServer:
    """Start one server, or three of a cluster; returns one of them."""
    ports = free_ports(variant.replicas)
    routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
    servers = [
        EmbeddedServer(
            folder / f"n{number}",
            jetstream_config=variant.sync,
            extra_config=""
            if variant.replicas == 1
            else f"server_name: n{number}\n"
            f'cluster {{ name: bench, listen: "127.0.0.1:{port}", routes: [{routes}] }}',
        )
        for number, port in enumerate(ports)
    ]
    await asyncio.gather(*map(stack.enter_async_context, servers))
    return servers[0]


async def _store(stack: AsyncExitStack, folder: Path, variant: Variant) -> EventStore:
    server = await _servers(stack, folder, variant)
    codec = nix.domain().codec
    settings = load_settings(nats_url=server.url, environ={})
    client = await stack.enter_async_context(connect(settings))
    specs = topology(codec.subjects, StreamSettings(replicas=variant.replicas))[:1]
    await _declared(client, specs)
    return await stack.enter_async_context(EventStore(client, codec))


async def _declared(client: Client, specs: Sequence[StreamSpec]) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:  # until the servers have found each other
            with suppress(ClientError, TopologyError):
                await declare(client, specs)
                return
            await asyncio.sleep(0.2)


Rates = Mapping[Variant, list[float]]


async def measure(folder: Path, turns: int, seconds: float) -> Mapping[str, Rates]:
    """Events a second of each way to append, in each configuration and turn."""
    rates = {work.name: {variant: list[float]() for variant in VARIANTS} for work in WORKS}
    async with AsyncExitStack() as stack:
        stores = {
            variant: await _store(stack, folder / str(number), variant)
            for number, variant in enumerate(VARIANTS)
        }
        for _ in range(turns):
            for work in WORKS:
                for variant, store in stores.items():
                    began = time.perf_counter()
                    count = await work.run(store, seconds)
                    rates[work.name][variant].append(count / (time.perf_counter() - began))
    return rates


def table(rates: Mapping[str, Rates]) -> str:
    """Median rates, and in brackets the median ratio to one replica that is flushed later."""
    lines = [
        f"| replicas, flushed | {' | '.join(f'{name}, events/s' for name in rates)} |",
        f"|---|{'---|' * len(rates)}",
    ]
    for variant in VARIANTS:
        cells = []
        for found in rates.values():
            pairs = zip(found[variant], found[VARIANTS[0]], strict=True)
            ratio = median(own / other for own, other in pairs)
            cells.append(f"{median(found[variant]):,.0f} ({ratio:.2g})")
        lines.append(f"| {variant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each turn")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        rates = asyncio.run(measure(Path(folder), options.turns, options.seconds))
    print(table(rates))


if __name__ == "__main__":
    main()
