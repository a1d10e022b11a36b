"""Crashes at every step of the command pipeline: one outcome, one set of events, nothing lost."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from eventstore.client.client import Client, connect
from eventstore.commands import Outcome
from eventstore.errors import JetStreamError, RequestTimeout, StreamMissing
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for, url_of
from tests.integration.commanding import (
    Add,
    AddEach,
    Added,
    FailingStore,
    GatedStore,
    Line,
    RaiseTo,
    Take,
    counting,
    opened,
    until,
)
from tests.proxy import TcpProxy

WAIT = 0.5
"""Seconds after which an unacknowledged command is redelivered."""

Commands = Add | AddEach | Take | RaiseTo

any_command = pytest.mark.parametrize(
    "command",
    [Add(amount=2), AddEach(amounts=[1, 1]), Take(amount=9), RaiseTo(total=0)],
    ids=["one event", "two events", "rejected", "no events"],
)
deciding_events = pytest.mark.parametrize(
    "command", [Add(amount=2), AddEach(amounts=[1, 1])], ids=["one event", "two events"]
)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@asynccontextmanager
async def far_line(line: Line) -> AsyncIterator[tuple[TcpProxy, Line]]:
    """Another connection to the same server, through a proxy."""
    async with (
        TcpProxy(line.client) as proxy,
        connect(settings_for(proxy.url)) as client,
        opened(client, line.domain) as far,
    ):
        yield proxy, far


def count(command: Commands) -> int:
    """How many events it produces for an aggregate that has 1."""
    return {Add: 1, AddEach: 2}.get(type(command), 0)


async def assert_carried_out_once(line: Line, command: Commands, outcome: Outcome) -> None:
    assert await line.commands.outcome(outcome.command_id) == outcome
    events = await line.read("c1")
    own = [event for event in events if event.causation_id == outcome.command_id]
    assert len(events) == 1 + count(command)
    assert tuple(event.id for event in own) == outcome.event_ids
    assert len(own) == count(command)
    assert outcome.status == ("rejected" if isinstance(command, Take) else "success")
    assert outcome.version == len(events)
    await line.until_done()
    assert await line.parked() == []


@deciding_events
async def test_a_worker_that_dies_after_the_append_and_before_the_outcome(
    line: Line, command: Commands
) -> None:
    await line.store.append("counter", "c1", Added(amount=1))
    async with GatedStore(line.client, line.domain.codec) as store:
        store.close_after("c1")
        dying = asyncio.create_task(line.worker(store=store, ack_wait=WAIT).run())
        executed = asyncio.create_task(line.commands.execute(command, "c1"))
        await asyncio.wait_for(store.recorded.wait(), 20)
        dying.cancel()
        await asyncio.wait([dying])
    assert await line.log_size() == 1 + count(command)
    async with line.working(ack_wait=WAIT):
        outcome = await executed
        await line.until_done()
    await assert_carried_out_once(line, command, outcome)


@deciding_events
async def test_the_streams_answer_to_the_append_is_lost(line: Line, command: Commands) -> None:
    async with far_line(line) as (proxy, far), far.working(ack_wait=WAIT):
        await line.commands.execute(Add(), "c1")
        lost = proxy.cut_after(f'"{line.subjects.log_stream}"'.encode(), "to_client", forward=False)
        outcome = await line.commands.execute(command, "c1", timeout=20)
        await line.until_done()
    assert lost.is_set()
    await assert_carried_out_once(line, command, outcome)


@any_command
async def test_the_buckets_answer_to_the_outcome_is_lost(line: Line, command: Commands) -> None:
    async with far_line(line) as (proxy, far), far.working(ack_wait=WAIT):
        await line.commands.execute(Add(), "c1")
        name = f'"KV_{line.subjects.outcome_bucket}"'
        lost = proxy.cut_after(name.encode(), "to_client", forward=False)
        outcome = await line.commands.execute(command, "c1", timeout=20)
        await line.until_done()
    assert lost.is_set()
    await assert_carried_out_once(line, command, outcome)


@any_command
async def test_the_outcome_never_reaches_the_bucket(line: Line, command: Commands) -> None:
    async with far_line(line) as (proxy, far), far.working(ack_wait=WAIT):
        await line.commands.execute(Add(), "c1")
        subject = f"PUB $KV.{line.subjects.outcome_bucket}."
        lost = proxy.cut_after(subject.encode(), "to_server", forward=False)
        outcome = await line.commands.execute(command, "c1", timeout=20)
        await line.until_done()
    assert lost.is_set()
    await assert_carried_out_once(line, command, outcome)


@any_command
async def test_the_acknowledgement_of_the_command_is_lost(line: Line, command: Commands) -> None:
    async with far_line(line) as (proxy, far), far.working(ack_wait=WAIT) as worker:
        await line.commands.execute(Add(), "c1")
        lost = proxy.cut_after(b"+ACK", "to_server", forward=False)
        outcome = await line.commands.execute(command, "c1", timeout=20)
        await asyncio.wait_for(lost.wait(), 20)
        await line.until_done()
    assert worker.handled >= 2
    assert await line.commands.outcome(outcome.command_id) == outcome
    assert len(await line.read("c1")) == 1 + count(command)


async def test_a_rejection_whose_acknowledgement_was_lost_is_not_decided_again(line: Line) -> None:
    async with far_line(line) as (proxy, far), far.working(ack_wait=WAIT):
        lost = proxy.cut_after(b"+ACK", "to_server", forward=False)
        outcome = await line.commands.execute(Take(amount=1), "c1", timeout=20)
        await asyncio.wait_for(lost.wait(), 20)
        await line.store.append("counter", "c1", Added(amount=1))  # now there would be one
        await line.until_done()
    assert outcome.status == "rejected"
    assert await line.commands.outcome(outcome.command_id) == outcome
    assert len(await line.read("c1")) == 1


async def test_the_first_outcome_is_final_if_another_worker_is_late(line: Line) -> None:
    first = Outcome(status="success", message="first", code="ok", command_id="c" * 8)
    late = Outcome(status="rejected", message="late", code="x", command_id="c" * 8)
    assert await line.outcomes.put(first) == first
    assert await line.outcomes.put(late) == first
    assert await line.outcomes.put(first) == first
    assert await line.outcomes.get("c" * 8) == first


async def test_broken_connections_with_many_commands_in_flight_lose_and_repeat_nothing(
    line: Line,
) -> None:
    async with far_line(line) as (proxy, far), far.working(ack_wait=WAIT):
        executed = [
            asyncio.create_task(
                line.commands.execute(Add(amount=number), f"c{number % 7}", timeout=40)
            )
            for number in range(300)
        ]
        for enough in (50, 100, 150):
            await until(lambda enough=enough: has_recorded(line, enough))  # type: ignore[misc]
            proxy.cut()
        outcomes = [await each for each in executed]
        await line.until_done()
    assert {outcome.status for outcome in outcomes} == {"success"}
    assert await line.log_size() == 300
    for number in range(7):
        events = await line.read(f"c{number}")
        assert [event.version for event in events] == list(range(1, len(events) + 1))
        amounts = sorted(event.data.amount for event in events)  # type: ignore[attr-defined]
        assert amounts == list(range(number, 300, 7))


async def has_recorded(line: Line, count: int) -> bool:
    return await line.log_size() >= count


@pytest.mark.parametrize("way", ["restarted", "killed and started"])
async def test_a_server_that_stops_while_a_worker_runs(
    server: EmbeddedServer, domain_name: str, way: str
) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(settings_for(server.url))) for _ in "ab"]
        domain = counting(domain_name)
        line, far = [await stack.enter_async_context(opened(c, domain)) for c in clients]
        await stack.enter_async_context(far.working(ack_wait=WAIT))
        sent = [await line.commands.send(Add(), f"c{number % 5}") for number in range(100)]
        if way == "restarted":
            await server.restart()
        else:
            server.kill()
            await server.start()
        await line.client.wait_connected(20)
        await line.until_done()
        outcomes = [await line.commands.outcome(each.command_id) for each in sent]
        assert {outcome.status for outcome in outcomes if outcome} == {"success"}
        assert None not in outcomes
        assert await line.log_size() == 100
        after = await line.commands.execute(Add(), "c1", timeout=20)
        assert after.version == 21


@pytest.mark.parametrize(
    "failure",
    [
        RequestTimeout("slow"),
        JetStreamError(10023, 503, "insufficient resources"),
        JetStreamError(10047, 500, "insufficient storage"),
        StreamMissing("no log"),
    ],
    ids=["timeout", "no resources", "no storage", "no stream"],
)
async def test_a_command_that_fails_for_other_reasons_is_requeued_and_not_parked(
    line: Line, failure: JetStreamError, caplog: pytest.LogCaptureFixture
) -> None:
    async with FailingStore(line.client, line.domain.codec, failures=[failure]) as store:
        with caplog.at_level(logging.WARNING):
            async with line.working(store=store):
                outcome = await line.commands.execute(Add(), "c1")
    assert outcome.status == "success"
    assert await line.parked() == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(failure) in caplog.text


async def test_killed_workers_leave_every_command_to_be_carried_out_once(
    line: Line,
) -> None:
    program = f"""
        import asyncio
        from eventstore.client.client import connect
        from tests.conftest import settings_for
        from tests.integration.commanding import counting, opened

        async def main():
            async with connect(settings_for({url_of(line.client)!r})) as client:
                async with opened(client, counting({line.domain.name!r})) as line:
                    await line.worker(ack_wait={WAIT}, in_flight=8).run()

        asyncio.run(main())
    """
    sent = [await line.commands.send(Add(amount=n), f"c{n % 5}") for n in range(1_000)]
    for enough in (50, 300):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])  # noqa: ASYNC220  # returns at once
        try:
            await until(lambda enough=enough: has_recorded(line, enough))  # type: ignore[misc]
        finally:
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
    assert await line.queued() > 0
    async with line.working(ack_wait=WAIT):
        await line.until_done()
    assert await line.log_size() == 1_000
    for number in range(5):
        events = await line.read(f"c{number}")
        amounts = sorted(event.data.amount for event in events)  # type: ignore[attr-defined]
        assert amounts == list(range(number, 1_000, 5))
    last = await line.commands.outcome(sent[-1].command_id)
    assert last is not None
    assert last.status == "success"
