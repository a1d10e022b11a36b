"""Other event stores in the same place: `eventsourcing` on SQLite (the extra `bench`).

Both do what a command does to an aggregate of ten events: load it, and append one event that
expects that version. `eventsourcing` is a library in the same process, with one writer; SQLite
flushes each commit to disk, and so does nats-server here where the row says so.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from eventstore import NO_STREAM, EventStore, connect, declare, load_settings, nix, topology
from eventstore.commands.loader import Loader
from eventstore.server.embedded import EmbeddedServer
from tests.bench.cpu import Meter
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.turns import in_turns

AGGREGATES = sized(500, 100)
EACH = 10
SLICE = sized(200, 50)
SLICES = sized(12, 4)
SYNCED = "sync_interval: always"
CONTENT = "x" * 60


class Module(Aggregate):
    """The peer's aggregate: the same as the shipped domain's module."""

    @event("Created")
    def __init__(self, name: str, content: str) -> None:
        self.name = name
        self.content = content

    @event("Updated")
    def update(self, content: str) -> None:
        """Replace the content."""
        self.content = content


class Peer:
    """`eventsourcing` on a file of SQLite."""

    name = f"eventsourcing {version('eventsourcing')}, SQLite"

    def __init__(self, directory: Path) -> None:
        database = str(directory / "peer.sqlite")
        sqlite = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": database}
        self._app = Application[UUID](env=sqlite)
        self._ids = itertools.cycle(self._filled())
        self._size = AGGREGATES * EACH

    def _filled(self) -> list[UUID]:
        ids = []
        for _ in range(AGGREGATES):
            module = Module(name="m", content="")
            for number in range(EACH - 1):
                module.update(f"{number} {CONTENT}")
            self._app.save(module)
            ids.append(module.id)
        return ids

    async def change(self, _number: int) -> float:
        """Aggregates loaded and saved a second."""
        began = time.perf_counter()
        for number in range(SLICE):
            module: Module = self._app.repository.get(next(self._ids))
            module.update(f"{number} {CONTENT}")
            self._app.save(module)
        self._size += SLICE
        return SLICE / (time.perf_counter() - began)

    async def replay(self, _number: int) -> float:
        """Events read and decoded a second."""
        began = time.perf_counter()
        count = sum(1 for _ in self._decoded())
        assert count == self._size
        return count / (time.perf_counter() - began)

    def _decoded(self) -> Iterator[object]:
        start = 1
        while page := self._app.recorder.select_notifications(start=start, limit=1_000):
            yield from map(self._app.mapper.to_domain_event, page)
            start = page[-1].id + 1

    def close(self) -> None:
        """Close its database."""
        self._app.close()


class Own:
    """This store, with as many aggregates of the same size."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._loader = Loader(store, None)
        self._decider = nix.domain().decider("module")
        self._numbers = itertools.count()

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
        return count / (time.perf_counter() - began)

    async def _change(self) -> None:
        number = next(self._numbers)
        name = f"m{number % AGGREGATES}"
        cached = await self._loader.load(self._decider, name)
        changed = nix.ModuleUpdated(content=f"{number} {CONTENT}")
        await self._store.append("module", name, changed, expected=cached.head)


async def measure() -> AsyncIterator[Measurement]:
    """Both in turns: one client, many clients, and the replay of the log."""
    for flush, config in (("each flushed to disk", SYNCED), ("flushed by the system", "")):
        with tempfile.TemporaryDirectory() as directory, _peer(Path(directory)) as peer:
            nats = Path(directory) / "nats"
            async with (
                EmbeddedServer(nats, jetstream_config=config) as server,
                connect(load_settings(nats_url=server.url, environ={})) as client,
                EventStore(client, nix.domain().codec) as store,
            ):
                streams = load_settings(environ={}).streams
                await declare(client, topology(nix.domain().codec.subjects, streams))
                own, meter = Own(store), Meter(server=server.pid)
                await own.fill()
                for in_flight in (1, 64):
                    name = f"load 10 events and append one, {in_flight} at a time, {flush}"
                    both = await in_turns(own.changes(in_flight), peer.change, SLICES, meter)
                    yield Measurement.beside(name, peer.name, both, SLICE, unit="changes")
                if not config:
                    count = (await client.api("STREAM.INFO.NIX_LOG"))["state"]["messages"]
                    both = await in_turns(own.replay, peer.replay, SLICES // 2, meter)
                    yield Measurement.beside("replay the log, decoded", peer.name, both, count)


@contextmanager
def _peer(directory: Path) -> Iterator[Peer]:
    peer = Peer(directory)
    try:
        yield peer
    finally:
        peer.close()


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
