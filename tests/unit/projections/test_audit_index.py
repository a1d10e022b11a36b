"""The audit index: traces by any of their ids, and searches in pages."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from eventstore.audit import AuditEntry, SearchAudit, TraceCorrelation
from eventstore.audit.entries import Order
from eventstore.errors import InvalidPayload, NoAuditIndex, QueryNotFound
from eventstore.messages.envelope import derive_id, utc_now
from eventstore.projections.audit import AuditIndex, audit
from eventstore.projections.audit.models import audit_command, audit_event
from eventstore.projections.audit.search import _ORDERED_BY, _matching, ordered
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.queries import cursor
from tests.unit.projections.memory import ROOT, time_of

_COMMANDS_OWN = ("status", "code", "message", "finished_at", "deliveries")
_EVENTS_OWN = ("schema_version", "chain")


def id_of(name: str) -> str:
    return derive_id(ROOT, name)


def event(name: str, cause: str, position: int, *, trace: str = "c1", **values: Any) -> AuditEntry:
    about: dict[str, Any] = {
        "type": "Made",
        "aggregate": "thing",
        "aggregate_id": "t",
        "version": position,
        "time": time_of(position),
        "actor": None,
    }
    return AuditEntry(
        kind="event",
        id=id_of(name),
        position=position,
        correlation_id=id_of(trace),
        causation_id=id_of(cause),
        schema_version=1,
        chain="0" * 64,
        **(about | values),
    )


def command(
    name: str, cause: str, at: int, *, trace: str | None = "c1", **values: Any
) -> AuditEntry:
    about: dict[str, Any] = {
        "type": "Make",
        "aggregate": "thing",
        "aggregate_id": "t",
        "time": time_of(at),
        "actor": None,
        "status": "success",
    }
    return AuditEntry(
        kind="command",
        id=id_of(name),
        version=0,
        position=0,
        correlation_id=None if trace is None else id_of(trace),
        causation_id=None if trace is None else id_of(cause),
        code="ok",
        message="",
        finished_at=time_of(at),
        deliveries=1,
        **(about | values),
    )


TRACE = [
    command("c1", "c1", 1, actor="anna"),
    event("e1", "c1", 2),
    event("e2", "c1", 3),
    command("c2", "e1", 4),
    event("e3", "c2", 5),
    command("c3", "e1", 6, status="rejected"),
]
NAMES = ["c1", "e1", "e2", "c2", "e3", "c3"]
OTHER = [command("d1", "d1", 7, trace="d1"), event("f1", "d1", 8, trace="d1")]


def row(entry: AuditEntry) -> dict[str, Any]:
    left_out = _EVENTS_OWN if entry.kind == "command" else _COMMANDS_OWN
    found = msgspec.structs.asdict(entry)
    return {name: value for name, value in found.items() if name not in ("kind", *left_out)}


async def fill(database: Database, entries: Iterable[AuditEntry]) -> AuditIndex:
    every = list(entries)

    def put(connection: Connection) -> None:
        checkpoint.restart(connection, audit, 42, utc_now())
        for kind, table in (("event", audit_event), ("command", audit_command)):
            rows = [row(entry) for entry in every if entry.kind == kind]
            if rows:
                connection.execute(insert(table), rows)

    await database.transact(put)
    return AuditIndex(database.engine)


@pytest.fixture
async def index(database: Database) -> AuditIndex:
    return await fill(database, TRACE + OTHER)


@pytest.mark.parametrize("named", NAMES)
async def test_any_id_of_a_trace_finds_all_of_it(index: AuditIndex, named: str) -> None:
    trace = await index.trace(TraceCorrelation(id=id_of(named)))

    assert (trace.correlation_id, trace.asked) == (id_of("c1"), id_of(named))
    assert (trace.events, trace.commands, trace.untold) == (3, 3, 0)
    names = {entry.id: name for name, entry in zip(NAMES, TRACE, strict=True)}
    assert [(names[line.id], line.depth) for line in trace.lines] == [
        ("c1", 0),
        ("e1", 1),
        ("c2", 2),
        ("e3", 3),
        ("c3", 2),
        ("e2", 1),
    ]
    assert [line.entry for line in trace.lines] == [TRACE[n] for n in (0, 1, 3, 4, 5, 2)]


async def test_the_beginning_of_an_id_will_do(index: AuditIndex) -> None:
    for length in (8, 9, 20):
        assert (
            await index.trace(TraceCorrelation(id=id_of("e3")[:length].upper()))
        ).asked == id_of("e3")


async def test_an_id_that_begins_several_is_refused(database: Database) -> None:
    same = [msgspec.structs.replace(event("e", "c1", n), id=f"{ROOT[:-1]}{n}") for n in (1, 2)]
    index = await fill(database, same)
    with pytest.raises(
        QueryNotFound, match=f"several ids begin with {ROOT[:8]}: .*1, .*2; give more"
    ):
        await index.trace(TraceCorrelation(id=ROOT[:8]))


@pytest.mark.parametrize("named", [ROOT, "01234567", "e1", "x" * 36, "", "' OR 1=1"])
async def test_an_id_that_nobody_knows_is_named(index: AuditIndex, named: str) -> None:
    with pytest.raises(QueryNotFound, match=named[:80] or "''"):
        await index.trace(TraceCorrelation(id=named))


async def test_a_cause_recorded_without_a_correlation_belongs_to_its_trace(
    database: Database,
) -> None:
    index = await fill(database, [command("c1", "c1", 1, trace=None), event("e1", "c1", 2)])
    for named in ("c1", "e1"):
        trace = await index.trace(TraceCorrelation(id=id_of(named)))
        assert [(line.id, line.depth) for line in trace.lines] == [
            (id_of("c1"), 0),
            (id_of("e1"), 1),
        ]
        assert (trace.events, trace.commands) == (1, 1)


async def test_a_command_known_by_its_events_only_is_found_by_its_id(database: Database) -> None:
    index = await fill(database, [event("e1", "c1", 1)])
    trace = await index.trace(TraceCorrelation(id=id_of("c1")))
    assert [(line.id, line.depth, line.entry is None) for line in trace.lines] == [
        (id_of("c1"), 0, True),
        (id_of("e1"), 1, False),
    ]


async def test_a_cause_of_another_correlation_is_included(database: Database) -> None:
    index = await fill(database, [*OTHER, event("e1", "f1", 9)])
    trace = await index.trace(TraceCorrelation(id=id_of("e1")))
    assert [(line.id, line.depth) for line in trace.lines] == [
        (id_of("d1"), 0),
        (id_of("f1"), 1),
        (id_of("e1"), 2),
    ]


async def test_a_huge_trace_has_its_first_messages_and_the_requested_one_with_its_causes(
    database: Database,
) -> None:
    many = [command("c1", "c1", 1)]
    many += [event(f"e{n}", f"e{n - 100}" if n > 100 else "c1", n) for n in range(2, 1_000)]
    index = await fill(database, many)

    trace = await index.trace(TraceCorrelation(id=id_of("e950"), limit=10))

    listed = {line.id for line in trace.lines}
    path = {id_of(f"e{n}") for n in range(50, 951, 100)}
    assert listed == {entry.id for entry in many[:10]} | path
    assert (trace.events, trace.untold) == (998, 999 - len(listed))


async def test_a_cyclic_trace_is_shown(database: Database) -> None:
    index = await fill(database, [event("e1", "e2", 1), event("e2", "e1", 2)])
    trace = await index.trace(TraceCorrelation(id=id_of("e1"), limit=1))
    assert [line.circular for line in trace.lines] == [True, False]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (SearchAudit(), TRACE + OTHER),
        (SearchAudit(kind="event"), [TRACE[1], TRACE[2], TRACE[4], OTHER[1]]),
        (SearchAudit(kind="command", correlation_id=id_of("d1")), [OTHER[0]]),
        (SearchAudit(type="Make", actor="anna"), [TRACE[0]]),
        (SearchAudit(causation_id=id_of("e1")), [TRACE[3], TRACE[5]]),
        (SearchAudit(status="rejected"), [TRACE[5]]),
        (SearchAudit(status="rejected", kind="event"), []),
        (SearchAudit(aggregate="thing", aggregate_id="t", since=time_of(7)), OTHER),
        (SearchAudit(since=time_of(2), until=time_of(4)), [TRACE[1], TRACE[2]]),
        (SearchAudit(aggregate="other"), []),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(_given(value)),
)
async def test_a_search_finds_what_fits_everything(
    index: AuditIndex, wanted: SearchAudit, expected: list[AuditEntry]
) -> None:
    oldest = msgspec.structs.replace(wanted, order="oldest")
    assert (await index.search(oldest)).items == expected
    assert (await index.search(wanted)).items == expected[::-1]
    assert await index.count(wanted) == len(expected)
    assert [entry async for page in index.read(wanted, page=2) for entry in page] == expected


def _given(wanted: SearchAudit) -> list[str]:
    named = [name for name in wanted.__struct_fields__ if name not in ("limit", "order")]
    return [name for name in named if getattr(wanted, name) is not None]


entries = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from(["anna", "bob"])), max_size=12
)


@settings(max_examples=15, deadline=None)
@given(
    made=entries,
    limit=st.integers(1, 5),
    order=st.sampled_from(["newest", "oldest"]),
    actor=st.none() | st.just("anna"),
)
def test_pages_put_together_are_everything_once_and_in_order(
    migrated: Path,
    made: list[tuple[bool, int, str]],
    limit: int,
    order: Order,
    actor: str | None,
) -> None:
    every = [
        (event if is_event else command)(
            f"n{number}", "c1", number + 1, time=time_of(at), actor=who
        )
        for number, (is_event, at, who) in enumerate(made)
    ]
    wanted = SearchAudit(actor=actor, order=order, limit=limit)

    async def search_all() -> list[AuditEntry]:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "read_model.sqlite"
            shutil.copyfile(migrated, path)
            async with Database(path) as database:
                index = await fill(database, every)
                found: list[AuditEntry] = []
                after = None
                while True:
                    page = await index.search(msgspec.structs.replace(wanted, after=after))
                    found.extend(page.items)
                    assert len(page.items) == limit or page.next is None
                    if (after := page.next) is None:
                        return found

    fitting = [entry for entry in every if actor in (None, entry.actor)]
    fitting.sort(key=lambda entry: entry.order, reverse=order == "newest")
    assert asyncio.run(search_all()) == fitting


@pytest.mark.parametrize(
    "text", ["", "x", "é", "e30", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsImV2ZW50IiwieCJd", "WyJ4Il0"]
)
async def test_a_cursor_that_no_search_has_given_is_refused(index: AuditIndex, text: str) -> None:
    with pytest.raises(InvalidPayload, match="is not a cursor"):
        await index.search(SearchAudit(after=text))


@pytest.mark.parametrize(
    "place", [["x"], ["2026-01-01T00:00:00", "event", 1], ["2026-01-01T00:00:00Z", "event", "x"]]
)
async def test_a_cursor_made_of_something_else_is_refused(index: AuditIndex, place: object) -> None:
    made = cursor.encode(SearchAudit(), _ORDERED_BY, place)
    with pytest.raises(InvalidPayload, match="is not a cursor"):
        await index.search(SearchAudit(after=made))


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_utc_does_not_know_is_refused(time: str) -> None:
    for name in ("since", "until"):
        with pytest.raises(msgspec.ValidationError, match=f"{name}: .* outside of the years"):
            msgspec.convert({name: time}, SearchAudit)


async def test_a_cursor_of_another_search_is_refused_but_time_may_go_on(index: AuditIndex) -> None:
    wanted = SearchAudit(limit=1)
    after = (await index.search(wanted)).next
    assert after is not None
    for other in (
        SearchAudit(after=after, actor="anna"),
        SearchAudit(after=after, order="oldest"),
    ):
        with pytest.raises(InvalidPayload, match="is not a cursor of this list with these filters"):
            await index.search(other)
    await index.search(SearchAudit(after=after, until=time_of(10_000)))


async def test_its_position_is_reported(index: AuditIndex) -> None:
    assert await index.position() == 42


async def test_a_missing_index_is_reported(database: Database, tmp_path: Path) -> None:
    with pytest.raises(NoAuditIndex, match="no audit index yet"):
        await AuditIndex(database.engine).position()
    async with Database(tmp_path / "empty.sqlite") as empty:
        with pytest.raises(NoAuditIndex, match="no read models"):
            await AuditIndex(empty.engine).position()


async def test_each_search_has_an_index_of_the_database(sqlite_database: Database) -> None:
    """No search reads all entries, and one for an id only those that have it."""
    await fill(sqlite_database, TRACE)
    since = time_of(1) - timedelta(days=1)
    wanted = {
        SearchAudit(correlation_id=ROOT): "correlation_id=?",
        SearchAudit(causation_id=ROOT): "causation_id=?",
        SearchAudit(correlation_id=ROOT, type="Made", since=since): "correlation_id=?",
        SearchAudit(causation_id=ROOT, aggregate="thing", status="success"): "causation_id=?",
        SearchAudit(aggregate="thing", aggregate_id="t"): "aggregate=? AND aggregate_id=?",
        SearchAudit(type="Made"): "type=?",
        SearchAudit(actor="anna"): "actor=?",
        SearchAudit(since=since): "time>?",
        SearchAudit(status="error"): "status=?",
    }
    async with sqlite_database.engine.connect() as connection:
        for each, condition in wanted.items():
            for kind in each.kinds:
                query = ordered(_matching(each, kind), kind, "newest").limit(1)
                text = query.compile(
                    dialect=sqlite_database.engine.dialect, compile_kwargs={"literal_binds": True}
                )
                plan = str((await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")).all())
                assert condition in plan, (each, kind, plan)
                assert "SCAN" not in plan, (each, kind, plan)
