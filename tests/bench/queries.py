"""Queries by request and reply, 1 and 16 in flight; beside another revision if one is named.

python -m tests.bench.queries [REVISION]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from eventstore import nix
from eventstore.client.queries import QueryClient
from eventstore.messages.queries import Query
from eventstore.server.embedded import EmbeddedServer
from tests.bench.loop import run
from tests.bench.read_side import FLAKES, client_of
from tests.bench.read_sides import ROOT, Side, checked_out, side
from tests.bench.report import Quartiles

ASKED = 1_000
SLICES = 8


class Service(NamedTuple):
    """A service of one revision, with a server of its own, and a client of it."""

    name: str
    side: Side
    queries: QueryClient


class Slice(NamedTuple):
    """Queries a second, milliseconds, and the service's microseconds of CPU a query."""

    rate: float
    p50: float
    p99: float
    cpu: float


def _get(number: int) -> Query[Any]:
    return nix.GetFlake(id=f"f{number * 7919 % FLAKES}")


def _list(number: int) -> Query[Any]:
    return nix.ListFlakes(path_prefix=f"./flakes/{number % 9}", limit=50)


async def _service(stack: AsyncExitStack, name: str, tree: Path) -> Service:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = await stack.enter_async_context(EmbeddedServer(directory / "nats"))
    location = str(directory / "read.sqlite")
    process = await stack.enter_async_context(side(tree, "queries", server.url, location))
    client = await stack.enter_async_context(client_of(server.url))
    return Service(name, process, QueryClient(client, nix.domain().codec.subjects))


async def _ask(service: Service, query: Callable[[int], Query[Any]], concurrency: int) -> Slice:
    latencies: list[float] = []
    numbers = iter(range(ASKED))

    async def one_after_another() -> None:
        for number in numbers:
            began = time.perf_counter()
            await service.queries.ask(query(number), timeout=60)
            latencies.append(time.perf_counter() - began)

    used, began = service.side.cpu(), time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    seconds, cpu = time.perf_counter() - began, service.side.cpu() - used
    cuts = statistics.quantiles(latencies, n=100)
    return Slice(ASKED / seconds, cuts[49] * 1000, cuts[98] * 1000, cpu / ASKED * 1e6)


async def measure(revision: str = "") -> None:
    """Print a line for each kind of query and number in flight, and the ratio to a revision."""
    async with AsyncExitStack() as stack:
        services = [await _service(stack, "here", ROOT)]
        if revision:
            tree = stack.enter_context(checked_out(revision))
            services.append(await _service(stack, revision[:8], tree))
        for name, query in (("flake.get", _get), ("flake.list, 50 items", _list)):
            for concurrency in (1, 16):
                print(f"queries, the read side alone: {name}, {concurrency} in flight")
                await _compare(services, query, concurrency)


async def _compare(
    services: list[Service], query: Callable[[int], Query[Any]], concurrency: int
) -> None:
    slices: dict[str, list[Slice]] = {each.name: [] for each in services}
    for number in range(SLICES):
        for each in services if number % 2 else services[::-1]:
            slices[each.name].append(await _ask(each, query, concurrency))
    for name, found in slices.items():
        rate, p50, p99, cpu = (statistics.median(each) for each in zip(*found, strict=True))
        figures = f"p50 {p50:.1f}, p99 {p99:.1f} ms  CPU {cpu:,.0f} us each"
        print(f"  {name:8} {rate:6,.0f} queries/s  {figures}")
    if len(slices) == 2:
        own, other = slices.values()
        ratios = [a.rate / b.rate for a, b in zip(own, other, strict=True)]
        print(f"  ratio    {Quartiles.of(ratios)} of its rate, {SLICES} slices", flush=True)


def main() -> None:
    """Run the benchmark."""
    run(measure(*sys.argv[1:2]))


if __name__ == "__main__":
    main()
