"""The same aggregate in other event stores for Python, each on a file of SQLite.

Each is a library in the process of the benchmark, has one writer at a time, and flushes each commit
to disk. They load an aggregate of ten events and append one, which expects that version.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

import eventsource
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from pydantic import BaseModel

from tests.bench.size import sized

AGGREGATES = sized(500, 100)
EACH = 10
SLICE = sized(200, 50)
CONTENT = "x" * 60


class OtherStore(Protocol):
    """Another event store; the numbers are those of slices."""

    name: str

    async def fill(self) -> None:
        """Create the aggregates."""

    async def change(self, number: int) -> float:
        """Aggregates loaded and saved a second."""

    async def replay(self, number: int) -> float:
        """Events read and decoded a second."""

    async def close(self) -> None:
        """Close its database."""


class _Module(Aggregate):
    @event("Created")
    def __init__(self, name: str, content: str) -> None:
        self.name = name
        self.content = content

    @event("Updated")
    def update(self, content: str) -> None:
        self.content = content


class Eventsourcing:
    """`eventsourcing`: synchronous, each event is a call of the aggregate's method."""

    name = f"eventsourcing {version('eventsourcing')}, SQLite"

    def __init__(self, directory: Path) -> None:
        database = str(directory / "eventsourcing.sqlite")
        sqlite = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": database}
        self._app = Application[UUID](env=sqlite)
        self._ids: Iterator[UUID] = iter(())
        self._size = AGGREGATES * EACH

    async def fill(self) -> None:
        ids = []
        for _ in range(AGGREGATES):
            module = _Module(name="m", content="")
            for number in range(EACH - 1):
                module.update(f"{number} {CONTENT}")
            self._app.save(module)
            ids.append(module.id)
        self._ids = itertools.cycle(ids)

    async def change(self, _number: int) -> float:
        began = time.perf_counter()
        for number in range(SLICE):
            module: _Module = self._app.repository.get(next(self._ids))
            module.update(f"{number} {CONTENT}")
            self._app.save(module)
        self._size += SLICE
        return SLICE / (time.perf_counter() - began)

    async def replay(self, _number: int) -> float:
        began = time.perf_counter()
        count = sum(1 for _ in self._decoded())
        assert count == self._size
        return count / (time.perf_counter() - began)

    def _decoded(self) -> Iterator[object]:
        start = 1
        while page := self._app.recorder.select_notifications(start=start, limit=1_000):
            yield from map(self._app.mapper.to_domain_event, page)
            start = page[-1].id + 1

    async def close(self) -> None:
        self._app.close()


@eventsource.register_event
class Updated(eventsource.DomainEvent):
    """The event of `eventsource-py`, which wants both names as fields."""

    event_type: str = "Updated"
    aggregate_type: str = "Module"
    content: str


class _State(BaseModel):
    content: str = ""


class _Updatable(eventsource.AggregateRoot[_State]):
    aggregate_type = "Module"

    def _get_initial_state(self) -> _State:
        return _State()

    def _apply(self, event: eventsource.DomainEvent) -> None:
        assert isinstance(event, Updated)
        self._state = _State(content=event.content)

    def update(self, content: str) -> None:
        expected = self.get_next_version()
        self.apply_event(
            Updated(aggregate_id=self.aggregate_id, content=content, aggregate_version=expected)
        )


class Eventsource:
    """`eventsource-py`: asynchronous, events are pydantic models."""

    name = f"eventsource-py {version('eventsource-py')}, SQLite"

    def __init__(self, directory: Path) -> None:
        self._store = eventsource.SQLiteEventStore(str(directory / "eventsource.sqlite"))
        self._repository = eventsource.AggregateRepository(
            event_store=self._store, aggregate_factory=_Updatable, aggregate_type="Module"
        )
        self._ids: Iterator[UUID] = iter(())
        self._size = AGGREGATES * EACH

    async def fill(self) -> None:
        ids = [uuid4() for _ in range(AGGREGATES)]
        for each in ids:
            module = _Updatable(each)
            for number in range(EACH):
                module.update(f"{number} {CONTENT}")
            await self._repository.save(module)
        self._ids = itertools.cycle(ids)

    async def change(self, _number: int) -> float:
        began = time.perf_counter()
        for number in range(SLICE):
            module = await self._repository.load(next(self._ids))
            module.update(f"{number} {CONTENT}")
            await self._repository.save(module)
        self._size += SLICE
        return SLICE / (time.perf_counter() - began)

    async def replay(self, _number: int) -> float:
        count, began = 0, time.perf_counter()
        async for _ in self._store.read_all():
            count += 1
        assert count == self._size
        return count / (time.perf_counter() - began)

    async def close(self) -> None:
        await self._store.close()
