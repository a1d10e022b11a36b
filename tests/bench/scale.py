"""Whether it stays the same: a small and a large log, each with its service, in turns.

`make scale` fills one server with 5,000,000 events over 500,000 aggregates, another with 10,000
over 1,000, and alternates slices of loads, appends, commands and queries between them. An
aggregate's ten events lie apart in the log, so that to load one reads up to ten blocks. A load is
*cold* for an aggregate that was not used before, *warm* if it is loaded again at once. The CPU is
that of all processes together: it hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from unittest.mock import patch

import msgspec

from eventstore import NO_STREAM, Append, EventStore, connect, declare, load_settings, nix, topology
from eventstore.commands.loader import Loader
from eventstore.server.embedded import EmbeddedServer
from eventstore.server.memory import VARIABLE, server_environment
from eventstore.store.append import Expected
from eventstore.store.head import NOTHING
from tests.bench.cpu import Meter, memory
from tests.bench.door import PlainClient, Service, serving
from tests.bench.report import Limit, Measurement, Quartiles, collected
from tests.bench.size import sized

EACH = 10
BATCH = 500
SLICE = 20
FLAT = 1.3
SHOWN = 10
"""Seconds after which progress is shown."""
ENCRYPTED = 'key: "only-for-this-benchmark", cipher: aes'
"""Streams have blocks of 2 MB instead of 8: the server has no setting for the size itself."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments: how many events in the large and in the small log, and slices of `SLICE`."""

    events: int = 5_000_000
    small: int = 10_000
    slices: int = 20
    encrypted: bool = False
    memory_limit: str = ""
    directory: Path | None = None
    store_only: bool = False


class Slices(msgspec.Struct):
    """What slices of one kind of work took: the seconds of each, and nanoseconds of CPU in all."""

    seconds: list[list[float]] = []
    cpu: int = 0

    @property
    def microseconds(self) -> float:
        """CPU for each piece of work."""
        return self.cpu / sum(map(len, self.seconds)) / 1_000

    @property
    def milliseconds(self) -> list[float]:
        """The latency that each hundredth of the work has at most."""
        return [cut * 1_000 for cut in quantiles((s for part in self.seconds for s in part), n=100)]


class Progress:
    """Shows how many of so many events there are, every few seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = self._shown = time.perf_counter()

    def show(self, more: int) -> None:
        """Print a line with so many more, unless one was printed a moment ago."""
        self._done += more
        now = time.perf_counter()
        if now - self._shown < SHOWN:
            return
        self._shown, rate = now, self._done / (now - self._began)
        left = (self._total - self._done) / rate / 60
        print(
            f"  {self._done:,} of {self._total:,} events, {rate:,.0f}/s, {left:.1f} min to go",
            flush=True,
        )


class Log:
    """A log of some size, whose aggregates' events lie apart."""

    def __init__(self, store: EventStore, events: int) -> None:
        self.aggregates = events // EACH
        self._store = store

    async def fill(self) -> None:
        """Append the events, in rounds over all aggregates, and show how far it is.

        Two at a time append to one half each, so that this process need not wait for the server.
        """
        progress, half = Progress(self.aggregates * EACH), self.aggregates // 2
        halves = range(half), range(half, self.aggregates)
        await asyncio.gather(*(self._fill(each, progress) for each in halves))

    async def _fill(self, aggregates: range, progress: Progress) -> None:
        heads: dict[int, Expected] = dict.fromkeys(aggregates, NO_STREAM)
        for round_ in range(EACH):
            for first in range(0, len(aggregates), BATCH):
                numbers = aggregates[first : first + BATCH]
                await self._append(round_, numbers, heads)
                progress.show(len(numbers))

    async def _append(self, round_: int, numbers: range, heads: dict[int, Expected]) -> None:
        appends = [
            Append(
                aggregate="module",
                aggregate_id=f"m{number}",
                events=[_event(round_, number)],
                expected=heads[number],
            )
            for number in numbers
        ]
        for number, appended in zip(numbers, await self._store.append_all(*appends), strict=True):
            heads[number] = appended.head


class Place:
    """What is done in a log of some size, with its service."""

    def __init__(self, store: EventStore, plain: PlainClient, aggregates: int) -> None:
        self.meter = Meter()
        self._store = store
        self._plain = plain
        self._loader = Loader(store, None)
        self._decider = nix.domain().decider("module")
        self._aggregates = aggregates
        chosen = random.sample(range(aggregates), k=aggregates)
        self._unused = iter(chosen)
        self._last = ""
        self._head = NOTHING

    async def load(self) -> None:
        """Load an aggregate that was not used before."""
        self._last = f"m{next(self._unused)}"
        await self.load_again()

    async def load_again(self) -> None:
        """Load the aggregate that was loaded last."""
        self._head = (await self._loader.load(self._decider, self._last)).head

    async def append(self) -> None:
        """Append an event to the aggregate that was loaded last."""
        event = nix.ModuleUpdated(content="appended")
        result = await self._store.append("module", self._last, event, expected=self._head)
        self._head = result.head

    async def command(self) -> None:
        """Change an aggregate that was not used before, through the service."""
        self._last = f"m{next(self._unused)}"
        await self.command_again()

    async def command_again(self) -> None:
        """Change the same aggregate, of which the service now has the state."""
        payload = b'{"content":"%d"}' % time.perf_counter_ns()
        await self._plain.execute("nix.cmd.module.update", self._last, payload)

    async def query(self) -> None:
        """Query a row."""
        number = random.randrange(self._aggregates)  # noqa: S311
        await self._plain.ask("nix.query.module.get", {"id": f"m{number}"})


def _event(round_: int, number: int) -> nix.ModuleCreated | nix.ModuleUpdated:
    if round_ == 0:
        return nix.ModuleCreated(name=f"m{number}", content="")
    return nix.ModuleUpdated(content=f"{round_} {'x' * 60}")


KINDS: dict[str, Callable[[Place], Awaitable[None]]] = {
    "load 10 events, cold": Place.load,
    "load 10 events, warm": Place.load_again,
    "append one event": Place.append,
}
OF_SERVICE: dict[str, Callable[[Place], Awaitable[None]]] = {
    "command, state not cached": Place.command,
    "command, state cached": Place.command_again,
    "query of one row": Place.query,
}


def _directory(stack: AsyncExitStack, events: int, sizes: Sizes) -> Path:
    if sizes.directory is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))
    directory = sizes.directory / str(events)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


async def _opened(
    stack: AsyncExitStack, events: int, sizes: Sizes
) -> tuple[Place, Service | None, EmbeddedServer]:
    directory = _directory(stack, events, sizes)
    config = ENCRYPTED if sizes.encrypted else ""
    server = EmbeddedServer(directory / "nats", jetstream_config=config)
    await stack.enter_async_context(server)
    client = await stack.enter_async_context(
        connect(load_settings(nats_url=server.url, environ={}))
    )
    codec = nix.domain().codec
    store = await stack.enter_async_context(EventStore(client, codec, cache_bytes=events << 10))
    await declare(client, topology(codec.subjects, load_settings(environ={}).streams)[:1])
    plain = await stack.enter_async_context(PlainClient(server.url))
    log = Log(store, events)
    await _filled(log, plain, directory)
    place = Place(store, plain, log.aggregates)
    assert server.pid is not None
    print(f"  {events:,} events appended, server {memory(server.pid):.0f} MB", flush=True)
    if sizes.store_only:
        place.meter = Meter(server=server.pid)
        return place, None, server
    service = await stack.enter_async_context(serving(server, directory))
    place.meter = Meter(server=server.pid, service=service.pid)
    await _caught_up(service, await plain.position())
    return place, service, server


async def _filled(log: Log, plain: PlainClient, directory: Path) -> None:
    """Fill a log, unless an earlier run has filled it to its end."""
    note = directory / "filled"
    if note.exists():
        return
    if await plain.position():
        raise SystemExit(
            f"an earlier run did not fill the log in {directory} to its end: remove it"
        )
    await log.fill()
    note.touch()


async def _caught_up(service: Service, end: int) -> None:
    """Wait until the read models reflect a position, and show how far they are."""
    began = time.perf_counter()
    while True:
        try:
            async with asyncio.timeout(SHOWN):
                await service.until_caught_up(end)
            break
        except TimeoutError:
            print(f"  read models at {service.position():,} of {end:,} events", flush=True)
    seconds = time.perf_counter() - began
    print(f"  its read models have caught up in {seconds:.0f} s", flush=True)


async def _slice(work: Callable[[Place], Awaitable[None]], place: Place, slices: Slices) -> None:
    found, before = [], place.meter.read()
    for _ in range(SLICE):
        began = time.perf_counter()
        await work(place)
        found.append(time.perf_counter() - began)
    slices.cpu += sum(place.meter.since(before).values())
    slices.seconds.append(found)


async def measure(sizes: Sizes) -> AsyncIterator[Measurement]:
    """Each kind of work in the large log, beside the small one; and memory."""
    async with AsyncExitStack() as stack:
        if sizes.memory_limit:
            limited = {VARIABLE: sizes.memory_limit}
            stack.enter_context(patch.dict(os.environ, limited))
        small, _, _ = await _opened(stack, sizes.small, sizes)
        large, service, server = await _opened(stack, sizes.events, sizes)
        kinds = KINDS if service is None else {**KINDS, **OF_SERVICE}
        found = {name: (Slices(), Slices()) for name in kinds}
        for number in range(sizes.slices):
            for name, work in kinds.items():
                for place in (small, large) if number % 2 else (large, small):
                    await _slice(work, place, found[name][place is large])
        for name, (few, many) in found.items():
            yield _measured(name, sizes, few, many)
        yield _memory(sizes, server, service)


def _measured(name: str, sizes: Sizes, few: Slices, many: Slices) -> Measurement:
    """The rates that one client at a time has, so that 1 is flat, and less is slower."""
    pairs = zip(few.seconds, many.seconds, strict=True)
    ratio = Quartiles.of([median(small) / median(large) for small, large in pairs])
    small, large = few.milliseconds, many.milliseconds
    cpu = many.microseconds / few.microseconds
    beyond = {"rate": 1 / ratio.median, "CPU": cpu}
    named = " and ".join(what for what, times in beyond.items() if times > FLAT)
    return Measurement(
        name=f"{name}, {sizes.events:,} events",
        unit="items",
        rate=1_000 / large[49],
        limit=Limit(f"{sizes.small:,} events", 1_000 / small[49]),
        ratio=ratio,
        cpu={"all": many.microseconds},
        p50=large[49],
        p99=large[98],
        note=f"CPU {cpu:.2f} of the small log's {few.microseconds:,.0f}, whose p50 is "
        f"{small[49]:.3g} and p99 {small[98]:.3g} ms"
        + (f"; beyond {FLAT} times: {named}" if named else ""),
    )


def _memory(sizes: Sizes, server: EmbeddedServer, service: Service | None) -> Measurement:
    """The memory of the large log's processes at their highest."""
    assert server.pid is not None
    limit = server_environment()[VARIABLE]
    if limit.isdecimal():
        limit = f"{int(limit) / 1024**3:.1f} GiB"
    note = f"nats-server {memory(server.pid, peak=True):,.0f} MB ({VARIABLE} {limit})"
    if service is not None:
        note += f", service {memory(service.pid, peak=True):,.0f} MB"
    return Measurement(name=f"memory with {sizes.events:,} events, at the highest", note=note)


def main() -> list[Measurement]:
    """Run the benchmark in its small form."""
    return collected(measure(Sizes(events=sized(100_000, 20_000), slices=sized(10, 4))))


def arguments() -> Sizes:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000, help="in the large log")
    parser.add_argument("--small", type=int, default=10_000, help="events in the small one")
    parser.add_argument("--slices", type=int, default=20, help=f"of {SLICE}, of each kind")
    parser.add_argument("--encrypted", action="store_true", help="blocks of 2 MB instead of 8")
    parser.add_argument("--memory-limit", default="", metavar=VARIABLE, help="such as 1GiB, or off")
    parser.add_argument(
        "--directory", type=Path, help="keeps the logs, or has those of a run before"
    )
    parser.add_argument("--store-only", action="store_true", help="no service: loads and appends")
    sizes = Sizes(**vars(parser.parse_args()))
    if sizes.small // EACH < 2 * SLICE * sizes.slices:
        parser.error(f"{sizes.small} events are too few aggregates for {sizes.slices} slices")
    return sizes


if __name__ == "__main__":
    collected(measure(arguments()))
