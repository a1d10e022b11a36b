"""The index of events is exactly the log, however pages and restarts fall."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from eventstore import nix
from eventstore.errors import UnknownType
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.nix import FlakeCreated, FlakeInputAdded, ModuleDeleted
from eventstore.projections.audit import audit
from eventstore.projections.audit.models import audit_event
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.testing import scenario
from eventstore.projections.worker.worker import ProjectionWorker
from tests.unit.projections.counters import Counted
from tests.unit.projections.memory import MemoryLog

CODEC = Codec("mixed", (), (FlakeCreated, FlakeInputAdded, ModuleDeleted, Counted))

facts: st.SearchStrategy[Event] = st.one_of(
    st.builds(FlakeCreated, path=st.just("."), description=st.text(max_size=3)),
    st.builds(FlakeInputAdded, name=st.sampled_from("ab"), url=st.just("u")),
    st.builds(ModuleDeleted),
    st.builds(Counted, by=st.integers(0, 9)),
)
appends = st.lists(
    st.tuples(st.sampled_from(["1", "2"]), facts, st.sampled_from([None, "anna", "bob ☃"])),
    min_size=1,
    max_size=30,
)
runs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 7)), max_size=4)


def expected(recorded: RecordedEvent) -> dict[str, Any]:
    """The row as the stored headers have it, read without the projection's ways."""
    headers = recorded.headers
    return {
        "position": recorded.position,
        "id": headers["X-Event-ID"],
        "type": headers["X-Event-Type"],
        "aggregate": type(recorded.data).__aggregate__,
        "aggregate_id": headers["X-Aggregate-ID"],
        "version": int(headers["X-Aggregate-Version"]),
        "schema_version": int(headers["X-Schema-Version"]),
        "time": datetime.fromisoformat(headers["X-Timestamp"]),
        "actor": headers.get("X-Actor"),
        "correlation_id": headers["X-Correlation-ID"],
        "causation_id": headers["X-Causation-ID"],
        "chain": headers.get("X-Chain"),
    }


async def found(database: Database) -> list[dict[str, Any]]:
    def read(connection: Connection) -> list[dict[str, Any]]:
        rows = connection.execute(select(audit_event).order_by(audit_event.c.position))
        return [dict(row) for row in rows.mappings()]

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


async def follow(path: Path, log: MemoryLog, batch: int) -> None:
    async with Database(path) as database:
        worker = ProjectionWorker(
            log,  # type: ignore[arg-type]
            database,
            [audit],
            batch=batch,
            on_progress=lambda _position, pending: None if pending else worker.stop(),
        )
        await worker.run()
        assert await found(database) == [expected(event) for event in log.events]


async def follow_in_pieces(path: Path, log: MemoryLog, pieces: list[tuple[int, int]]) -> None:
    end = 0
    for step, batch in pieces:
        end = min(end + step, log.end)
        earlier = MemoryLog(CODEC)
        earlier.events = log.events[:end]
        await follow(path, earlier, batch)
    await follow(path, log, batch=5)


@pytest.fixture(scope="module")
def directory(migrated: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        shutil.copyfile(migrated, Path(directory) / "template")
        yield Path(directory)


@settings(max_examples=15, deadline=None)
@given(appended=appends, pieces=runs)
def test_the_index_is_the_log(
    directory: Path, appended: list[tuple[str, Event, str | None]], pieces: list[tuple[int, int]]
) -> None:
    log = MemoryLog(CODEC)
    for aggregate_id, event, actor in appended:
        log.add(aggregate_id, event, actor=actor)
    with tempfile.TemporaryDirectory(dir=directory) as own:
        path = Path(own) / "read_model.sqlite"
        shutil.copyfile(directory / "template", path)
        asyncio.run(follow_in_pieces(path, log, pieces))


def test_it_wants_every_event_of_any_domain() -> None:
    every: list[type[Event]] = [Counted, *nix.domain().codec.event_types]
    assert all(audit.wants(event) for event in every)


def test_what_is_dropped_or_cannot_be_read_has_a_row_as_any_other() -> None:
    (
        scenario(audit)
        .given("1", Counted(by=1), actor="anna")
        .given_unread("counter", "1", "LookedAt", actor="bob")
        .given_unread("counter", "2", "Painted", UnknownType("no such type"))
        .given("1", Counted(by=2))
        .then(
            audit_event,
            {"position": 1, "type": "Counted", "version": 1, "actor": "anna"},
            {"position": 2, "type": "LookedAt", "version": 2, "actor": "bob"},
            {"position": 3, "type": "Painted", "aggregate_id": "2", "version": 1},
            {"position": 4, "type": "Counted", "aggregate_id": "1", "version": 3},
        )
    )


def test_an_events_own_handler_comes_before_the_one_for_all() -> None:
    both = Projection("both", tables=[audit_event])
    handled = []

    @both.handles
    def any_event(event: Event) -> None:
        handled.append(("any", type(event)))

    @both.handles
    def counted(event: Counted) -> None:
        handled.append(("own", type(event)))

    log = MemoryLog(CODEC)
    log.add("1", Counted(by=1), ModuleDeleted())
    for recorded in log.events:
        both.statements(recorded)

    assert handled == [("own", Counted), ("any", ModuleDeleted)]
