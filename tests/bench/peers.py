"""Other event stores in the same place, each on SQLite (the extra `bench`).

All do what a command does to an aggregate of ten events: load it, and append one event that expects
that version. The others are libraries in the same process, with one writer (`other_stores`); SQLite
flushes each commit to disk, and so does nats-server here where the row says so.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.client.client import Client
from eventstore.commands.loader import Loader
from eventstore.server.embedded import EmbeddedServer
from tests.bench.cpu import Meter
from tests.bench.other_stores import (
    AGGREGATES,
    CONTENT,
    EACH,
    SLICE,
    Eventsource,
    Eventsourcing,
    OtherStore,
)
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.turns import in_turns

SLICES = sized(12, 4)
SYNCED = "sync_interval: always"


class Own:
    """This store, with as many aggregates of the same size."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._loader = Loader(store, None)
        self._decider = nix.domain().decider("module")
        self._numbers = itertools.count()
        self.read = 0

    async def fill(self) -> None:
        """Create the aggregates."""
        for number in range(AGGREGATES):
            created = nix.ModuleCreated(name="m", content="")
            updates = [nix.ModuleUpdated(content=f"{each} {CONTENT}") for each in range(EACH - 1)]
            await self._store.append(
                "module", f"m{number}", [created, *updates], expected=NO_STREAM
            )

    def changes(self, in_flight: int) -> Callable[[int], Awaitable[float]]:
        """Slices of aggregates loaded and appended to, so many at a time."""

        async def rate(_number: int) -> float:
            left = iter(range(SLICE))

            async def one_after_another() -> None:
                for _ in left:
                    await self._change()

            began = time.perf_counter()
            await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
            return SLICE / (time.perf_counter() - began)

        return rate

    async def replay(self, _number: int) -> float:
        """Events read, checked and decoded a second."""
        count, began = 0, time.perf_counter()
        async for page in self._store.pages():
            count += len(page.events)
        self.read += count
        return count / (time.perf_counter() - began)

    async def _change(self) -> None:
        number = next(self._numbers)
        name = f"m{number % AGGREGATES}"
        cached = await self._loader.load(self._decider, name)
        changed = nix.ModuleUpdated(content=f"{number} {CONTENT}")
        await self._store.append("module", name, changed, expected=cached.head)


async def measure() -> AsyncIterator[Measurement]:
    """In turns with each of the others: one client, many clients, and the replay of the log."""
    for flush, config in (("each flushed to disk", SYNCED), ("flushed by the system", "")):
        async with AsyncExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = EmbeddedServer(directory / "nats", jetstream_config=config)
            await stack.enter_async_context(server)
            client = connect(load_settings(nats_url=server.url, environ={}))
            own = await _own(stack, await stack.enter_async_context(client))
            meter = Meter(server=server.pid)
            for other in (Eventsourcing(directory), Eventsource(directory)):
                stack.push_async_callback(other.close)
                await other.fill()
                for in_flight in (1, 64):
                    name = f"load 10 events and append one, {in_flight} at a time, {flush}"
                    both = await in_turns(own.changes(in_flight), other.change, SLICES, meter)
                    yield Measurement.beside(name, other.name, both, SLICE, unit="changes")
                if not config:
                    yield await _replay(own, other, meter)


async def _own(stack: AsyncExitStack, client: Client) -> Own:
    codec = nix.domain().codec
    store = await stack.enter_async_context(EventStore(client, codec))
    await declare(client, topology(codec.subjects, load_settings(environ={}).streams))
    own = Own(store)
    await own.fill()
    return own


async def _replay(own: Own, other: OtherStore, meter: Meter) -> Measurement:
    own.read = 0
    both = await in_turns(own.replay, other.replay, SLICES // 2, meter)
    items = own.read // (SLICES // 2)
    return Measurement.beside("replay the log, decoded", other.name, both, items)


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
