"""An aggregate's history from the log, and the check of its chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventstore.application import running
from eventstore.audit import (
    GetHistory,
    HistoryStarts,
    SearchAudit,
    StopView,
    TraceCorrelation,
    aggregate_history,
)
from eventstore.audit.aggregate_history import history_answers
from eventstore.audit.chain_check import Witness, check_chain
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.client.responder import Responder
from eventstore.errors import InvalidPayload, QueryNotFound, QueryRefused, UnknownType
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.chain import chain_value
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import Header
from eventstore.projections.audit import CommandCollector, audit, audit_queries
from eventstore.projections.database.database import Database
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.queries.waiting import CheckpointPositions
from eventstore.projections.worker.worker import ProjectionWorker
from tests.integration.commanding import Add, Line, Take, counting, opened

BOUND = 45.0


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line, line.working():
        yield line


async def add(line: Line, *amounts: int) -> None:
    for amount in amounts:
        outcome = await line.commands.execute(Add(amount=amount), "c1", actor="anna")
        assert outcome.status == "success"


async def history(line: Line, **options: Any) -> Any:
    return await aggregate_history(line.client, line.domain, "counter", "c1", **options)


async def store(
    line: Line, headers: Mapping[str, str], payload: bytes, *, chained: bool = False
) -> int:
    """Put a message into the log past the store, as somebody with the rights could.

    `chained`: as somebody who knows how chains are made, too.
    """
    subject = line.subjects.log("counter", "c1")
    bare = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    if chained:
        last = await line.jetstream.get_last_msg(line.subjects.log_stream, subject)
        assert last.headers is not None
        before = last.headers[Header.CHAIN]
        bare[Header.CHAIN] = chain_value(before, subject, bare, payload)
    ack = await line.jetstream.publish(subject, payload, headers=bare)
    return ack.seq


async def test_the_state_is_that_of_each_version(line: Line) -> None:
    await add(line, 1, 2, 3)
    events = await line.read("c1")

    for version, total in enumerate([0, 1, 3, 6]):
        found = await history(line, at=version)
        assert (found.version, found.state) == (version, {"total": total})
        assert (len(found.steps), found.later) == (version, 3 - version)
        assert (found.chain.verified, found.chain.events) == (True, 3)
    for event in events:
        assert (await history(line, at=event.time)).version == event.version
    last = await history(line, limit=1)
    assert [(step.version, step.actor) for step in last.steps] == [(3, "anna")]
    assert (last.earlier, last.steps[0].data) == (2, {"amount": 3})
    (change,) = last.steps[0].changes
    assert (change.path, change.before, change.after) == (("total",), 3, 6)


async def test_an_aggregate_without_events_has_the_first_state(line: Line) -> None:
    found = await history(line)
    assert (found.version, found.state, found.steps) == (0, {"total": 0}, ())


async def test_an_unknown_aggregate_is_refused(line: Line) -> None:
    with pytest.raises(UnknownType, match="unknown aggregate 'teapot'"):
        await aggregate_history(line.client, line.domain, "teapot", "c1")


async def test_an_event_that_was_forged_is_named(line: Line) -> None:
    await add(line, 1, 2)
    *_, last = await line.read("c1")
    forged = dict(last.headers) | {Header.EVENT_ID: new_id(), Header.AGGREGATE_VERSION: "3"}
    position = await store(line, forged, b'{"amount": 1000}')

    found = await history(line)

    assert found.chain.problem is not None
    assert found.chain.problem.startswith(f"version 3 at position {position}: from version 2 and")
    assert not found.chain.verified
    assert (found.version, found.state, found.foreign) == (2, {"total": 3}, (position,))
    assert found.later == 0

    await add(line, 4)
    found = await history(line)
    assert (found.version, found.state, found.foreign) == (3, {"total": 7}, (position,))
    assert await history(line, starts=HistoryStarts()) == found


async def test_an_event_that_cannot_follow_is_named(line: Line) -> None:
    await add(line, 1)
    (only,) = await line.read("c1")
    forged = dict(only.headers) | {Header.EVENT_ID: new_id(), Header.AGGREGATE_VERSION: "2"}
    position = await store(line, forged, b'{"amount": "much"}', chained=True)

    found = await history(line)

    assert found.stopped is not None
    assert (found.stopped.type, found.stopped.version) == ("Added", 2)
    assert found.stopped.position == position
    assert found.stopped.reason.startswith("payload of Added: ")
    assert (found.version, found.state, found.later) == (1, {"total": 1}, 1)


async def test_the_fold_ends_before_an_unknown_event_and_names_it(line: Line) -> None:
    await add(line, 1, 2)
    first, last = await line.read("c1")
    unknown = dict(last.headers) | {Header.EVENT_TYPE: "Painted", Header.AGGREGATE_VERSION: "3"}
    position = await store(line, unknown | {Header.EVENT_ID: new_id()}, b"{}", chained=True)
    later = unknown | {Header.EVENT_ID: new_id(), Header.AGGREGATE_VERSION: "4"}
    await store(line, later, b"{}", chained=True)

    found = await history(line)

    assert found.stopped == StopView(
        type="Painted",
        version=3,
        position=position,
        reason=f"event type 'Painted' is not registered in {line.domain.name}",
    )
    assert (found.version, found.state, len(found.steps)) == (2, {"total": 3}, 2)
    assert (found.later, found.chain.events) == (2, 4)
    for at, version in ((2, 2), (first.time, 1)):
        early = await history(line, at=at)
        assert (early.version, early.stopped) == (version, None)


async def test_messages_without_a_valid_envelope_are_skipped_and_named(line: Line) -> None:
    await add(line, 1)
    (only,) = await line.read("c1")
    broken = dict(only.headers) | {Header.EVENT_ID: new_id(), Header.TIMESTAMP: "yesterday"}
    position = await store(line, broken | {Header.AGGREGATE_VERSION: "two"}, b"{}")

    found = await history(line)

    assert (found.version, found.stopped, found.foreign) == (1, None, (position,))
    assert "'yesterday', not an RFC 3339 time" in str(found.chain.problem)


async def test_witnesses_are_compared_with_the_log(line: Line) -> None:
    await add(line, 1, 2)
    first, second = await line.read("c1")
    remembered = {
        event.position: Witness(event.id, event.type, event.envelope.chain)
        for event in (first, second)
    }
    subject = line.subjects.log("counter", "c1")
    reader = DirectReader(line.client, line.subjects.log_stream)
    assert (await check_chain(reader, subject, witnesses=remembered)).verified

    other = {second.position: Witness(second.id, "Added", "f" * 64)}
    report = await check_chain(reader, subject, witnesses=other)
    assert "with another chain value" in str(report.problem)

    gone = remembered | {second.position + 1: Witness(new_id(), "Added", None)}
    report = await check_chain(reader, subject, witnesses=gone)
    assert f"is no longer at position {second.position + 1}" in str(report.problem)

    report = await check_chain(reader, subject, witnesses=gone, max_events=1)
    assert (report.complete, report.problem, report.verified) == (False, None, False)


async def test_all_is_answered_by_request_and_reply(line: Line, tmp_path: Path) -> None:
    async with Database(tmp_path / "read_model.sqlite") as database:
        await database.migrate()
        worker = ProjectionWorker(line.store, database, [audit])
        collector = CommandCollector(line.client, line.subjects, database)
        positions = CheckpointPositions(database, worker)
        answers = query_answers(database, positions, [audit_queries], line.subjects)
        answers |= history_answers(line.client, line.domain)
        responder = Responder(line.client, answers, queue="audit")
        async with running(worker, collector, responder):
            await responder.ready.wait()
            await add(line, 1)
            taken = await line.commands.execute(Take(amount=5), "c1", actor="bob")
            await collector.wait(BOUND)
            queries = QueryClient(line.client, line.subjects)

            traced = await queries.ask(TraceCorrelation(id=taken.command_id), wait_for=1)
            assert (traced.position, [each.id for each in traced.data.lines]) == (
                1,
                [taken.command_id],
            )
            assert traced.data.lines[0].entry is not None
            assert traced.data.lines[0].entry.code == "too_little"
            found = [each async for each in queries.all(SearchAudit(limit=1, order="oldest"))]
            assert [(each.kind, each.actor) for each in found] == [
                ("command", "anna"),
                ("event", "anna"),
                ("command", "bob"),
            ]
            past = await queries.ask(GetHistory(aggregate="counter", id="c1", at=1))
            assert (past.position, past.data.state) == (1, {"total": 1})
            assert past.data.chain.verified

            (first,) = await line.read("c1")
            headers = dict(first.headers) | {
                Header.EVENT_ID: new_id(),
                Header.EVENT_TYPE: "Painted",
                Header.AGGREGATE_VERSION: "2",
            }
            position = await store(line, headers, b"{}", chained=True)
            odd = queries.all(SearchAudit(type="Painted"), wait_for=position)
            (painted,) = [each async for each in odd]
            assert (painted.position, painted.version) == (position, 2)
            traced = await queries.ask(TraceCorrelation(id=painted.id))
            assert painted in [each.entry for each in traced.data.lines]
            past = await queries.ask(GetHistory(aggregate="counter", id="c1"))
            assert past.data.stopped is not None
            assert (past.data.stopped.type, past.data.stopped.position) == ("Painted", position)

            with pytest.raises(QueryNotFound, match="counter c9 has no events"):
                await queries.ask(GetHistory(aggregate="counter", id="c9"))
            with pytest.raises(QueryNotFound, match="has the id"):
                await queries.ask(TraceCorrelation(id=new_id()))
            with pytest.raises(QueryRefused, match="is not a cursor"):
                await queries.ask(SearchAudit(after="x"))
            with pytest.raises(InvalidPayload):
                await queries.ask(GetHistory(aggregate="counter", id="c1", at=-1))
