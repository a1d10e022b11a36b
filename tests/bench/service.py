"""The whole service, seen from its door: commands and queries of a client without this library.

`eventstore serve` is one process with all that it has: command worker, six read models, feed, audit
index, health and metrics. The client is a second process, nats-server the third. Beside it, in
alternating slices: what bare nats-py takes for one durable publish of the same message (see
`bare`), for one without headers, and for one read.

`python -m tests.bench.service REVISION` alternates the service of another revision with this one,
in one process and in two, and with bare publishes and reads.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from msgspec.structs import replace

from eventstore.server.embedded import EmbeddedServer
from tests.bench.bare import BarePublishes
from tests.bench.compare import checked_out
from tests.bench.cpu import Meter, memory
from tests.bench.door import LOG, ROOT, PlainClient, Service, serving
from tests.bench.report import Limit, Measurement, Quartiles, collected
from tests.bench.size import sized

AGGREGATES = sized(2_000, 500)
COMMANDS = sized(2_000, 500)
QUERIES = 500
SLICES = sized(8, 3)
IN_FLIGHT = 64
QUERIES_IN_FLIGHT = 16
COMMAND = "nix.cmd.module.update"
QUERY = "nix.query.module.get"


class Slice(NamedTuple):
    """One slice: items a second, each one's seconds, nanoseconds of CPU, and the read side's lag.

    The CPU includes what the read models still had to do when the last outcome was there.
    """

    rate: float
    latencies: list[float]
    cpu: dict[str, int]
    lag: float


class Door:
    """A service with a server and a client of its own."""

    def __init__(self, server: EmbeddedServer, service: Service, client: PlainClient) -> None:
        self.service = service
        self._client = client
        self._bare = BarePublishes(client, IN_FLIGHT)
        self._meter = Meter(service=service.pid, read_side=service.read_side, server=server.pid)
        self._numbers = itertools.count()

    async def prepare(self) -> None:
        """Create the aggregates, and the stream of the bare publishes."""
        await self._bare.prepare()
        await self._closed(AGGREGATES, IN_FLIGHT, self._create)

    async def commands(self, _number: int = 0) -> Slice:
        """A slice of commands on aggregates that exist."""
        return await self._slice(COMMANDS, IN_FLIGHT, self._update)

    async def queries(self, _number: int = 0) -> Slice:
        """A slice of queries for one row each."""
        return await self._slice(QUERIES, QUERIES_IN_FLIGHT, self._get)

    async def bare_publishes(self) -> Slice:
        """A slice of publishes of what a slice of commands sends."""
        return await self._bare_commands(headers=True)

    async def bare_payloads(self) -> Slice:
        """A slice of publishes of the payloads alone."""
        return await self._bare_commands(headers=False)

    async def bare_reads(self) -> Slice:
        """A slice of direct reads of one message each."""
        reads = self._closed(QUERIES, QUERIES_IN_FLIGHT, self._read)
        return await self._bare_slice(reads, QUERIES)

    async def _bare_commands(self, *, headers: bool) -> Slice:
        await self._bare.empty()
        return await self._bare_slice(self._bare.publish(_payloads(), headers=headers), COMMANDS)

    async def _bare_slice(self, work: Awaitable[object], count: int) -> Slice:
        before, began = self._meter.read(), time.perf_counter()
        await work
        rate = count / (time.perf_counter() - began)
        return Slice(rate, [], self._meter.since(before), 0.0)

    async def _slice(
        self, count: int, in_flight: int, one: Callable[[int], Awaitable[None]]
    ) -> Slice:
        before, began = self._meter.read(), time.perf_counter()
        latencies = await self._closed(count, in_flight, one)
        seconds = time.perf_counter() - began
        lag = await self.service.until_caught_up(await self._client.position())
        return Slice(count / seconds, latencies, self._meter.since(before), lag)

    async def _closed(
        self, count: int, in_flight: int, one: Callable[[int], Awaitable[None]]
    ) -> list[float]:
        """Do so many, `in_flight` at a time: the seconds that each took."""
        latencies: list[float] = []
        numbers = itertools.islice(self._numbers, count)

        async def one_after_another() -> None:
            for number in numbers:
                began = time.perf_counter()
                await one(number)
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        return latencies

    async def _create(self, number: int) -> None:
        payload = b'{"name":"m","content":""}'
        await self._client.execute("nix.cmd.module.create", f"m{number % AGGREGATES}", payload)

    async def _update(self, number: int) -> None:
        await self._client.execute(COMMAND, f"m{number % AGGREGATES}", _payload(number))

    async def _get(self, number: int) -> None:
        await self._client.ask(QUERY, {"id": f"m{number % AGGREGATES}"})

    async def _read(self, number: int) -> None:
        subject = f"$JS.API.DIRECT.GET.{LOG}.nix.log.module.m{number % AGGREGATES}"
        await self._client.nats.request(subject)


def _payload(number: int) -> bytes:
    return b'{"content":"%d %s"}' % (number, b"x" * 60)


def _payloads() -> list[bytes]:
    return [_payload(number) for number in range(COMMANDS)]


async def _opened(stack: AsyncExitStack, tree: Path = ROOT, processes: int = 1) -> Door:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = await stack.enter_async_context(EmbeddedServer(directory / "nats"))
    service = await stack.enter_async_context(serving(server, directory, tree, processes=processes))
    client = await stack.enter_async_context(PlainClient(server.url))
    door = Door(server, service, client)
    await door.prepare()
    await door.commands()  # every aggregate is cached, and all code has run
    return door


async def measure() -> AsyncIterator[Measurement]:
    """Commands beside bare publishes, and queries beside bare reads."""
    async with AsyncExitStack() as stack:
        door = await _opened(stack)
        for measurement in await _commands(door, "whole service"):
            yield measurement
        for measurement in await _beside(
            f"queries of one row, whole service, {QUERIES_IN_FLIGHT} in flight",
            "queries",
            (door.queries, QUERIES),
            (f"bare direct get, {QUERIES_IN_FLIGHT} in flight", door.bare_reads),
        ):
            yield measurement
        used = memory(door.service.pid, peak=True)
        yield Measurement(name="memory of the service at its highest", note=f"{used:.0f} MB")
    async with AsyncExitStack() as stack:
        door = await _opened(stack, processes=2)
        for measurement in await _commands(door, "whole service in 2 processes"):
            yield measurement


async def _commands(door: Door, where: str) -> list[Measurement]:
    return await _beside(
        f"commands, {where}, {IN_FLIGHT} in flight",
        "commands",
        (door.commands, COMMANDS),
        (f"bare publish_async of the same, {IN_FLIGHT} in flight", door.bare_publishes),
        (f"bare publish_async without headers, {IN_FLIGHT} in flight", door.bare_payloads),
    )


async def _beside(
    name: str,
    unit: str,
    own: tuple[Callable[[], Awaitable[Slice]], int],
    *bare: tuple[str, Callable[[], Awaitable[Slice]]],
) -> list[Measurement]:
    """Slices in turns with those of each limit; the order changes with each slice."""
    (work, items), limits = own, [limit for limit, _ in bare]
    found: list[list[Slice]] = [[] for _ in (own, *bare)]
    turn = list(zip(found, (work, *(each for _, each in bare)), strict=True))
    for _ in range(SLICES):
        for kept, each in turn:
            kept.append(await each())
        turn.reverse()
    slices, *bares = found
    lag = max(each.lag for each in slices)
    note = f"read models behind by {lag:.1f} s at most" if unit == "commands" else ""
    first = measured(name, unit, slices, items, beside=(limits[0], bares[0]), note=note)
    others = (
        measured(name, unit, slices, items, beside=beside)
        for beside in zip(limits[1:], bares[1:], strict=True)
    )
    return [first, *(replace(each, cpu={}, p50=None, p99=None) for each in others)]


def measured(
    name: str,
    unit: str,
    slices: list[Slice],
    items: int,
    *,
    beside: tuple[str, list[Slice]] | None = None,
    note: str = "",
) -> Measurement:
    """What slices of so many items each have in common, beside slices of something else."""
    limit = ratio = None
    if beside is not None:
        limit = Limit(beside[0], median(each.rate for each in beside[1]))
        pairs = zip(slices, beside[1], strict=True)
        ratio = Quartiles.of([own.rate / other.rate for own, other in pairs])
        used = ", ".join(f"{role} {each:,.0f}" for role, each in _cpu(beside[1], items).items())
        note = "; ".join(filter(None, (note, f"CPU µs beside it: {used}")))
    cuts = quantiles([seconds for each in slices for seconds in each.latencies], n=100)
    return Measurement(
        name=name,
        unit=unit,
        rate=median(each.rate for each in slices),
        limit=limit,
        ratio=ratio,
        cpu=_cpu(slices, items),
        p50=cuts[49] * 1_000,
        p99=cuts[98] * 1_000,
        note=note,
    )


def _cpu(slices: list[Slice], items: int) -> dict[str, float]:
    """Microseconds an item, by process: the median of the slices."""
    roles = slices[0].cpu
    return {role: median(each.cpu[role] for each in slices) / items / 1_000 for role in roles}


async def compare(revision: str) -> AsyncIterator[Measurement]:
    """The commands and queries of another revision, of this one, and of this one in two processes.

    In turns with them: bare publishes and reads, of which each is a share.
    """
    async with AsyncExitStack() as stack:
        tree = stack.enter_context(checked_out(revision))
        other, own = await _opened(stack, tree), await _opened(stack)
        doors = {
            revision: other,
            "here": own,
            "here in 2 processes": await _opened(stack, processes=2),
        }
        for unit, items, work, bare in (
            ("commands", COMMANDS, Door.commands, own.bare_publishes),
            ("queries", QUERIES, Door.queries, own.bare_reads),
        ):
            slices: dict[str, list[Slice]] = {name: [] for name in (*doors, "bare")}
            for number in range(SLICES):
                slices["bare"].append(await bare())
                for name, door in reversed(doors.items()) if number % 2 else doors.items():
                    slices[name].append(await work(door))
            for beside in ("bare", revision):
                for name in doors:
                    if name != beside:
                        limit = (beside, slices[beside])
                        yield measured(f"{unit}, {name}", unit, slices[name], items, beside=limit)


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", nargs="?", help="the revision to compare with")
    given = parser.parse_args()
    collected(compare(given.revision)) if given.revision else main()
