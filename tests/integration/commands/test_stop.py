"""Starting, stopping and failing: a worker ends cleanly, says why, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from eventstore.client.client import Client, connect
from eventstore.commands import CommandWorker
from eventstore.commands.consumer import worker_consumer
from eventstore.config import AuthSettings, Secret, Settings
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    PermissionDenied,
    StreamDrift,
    StreamMissing,
)
from eventstore.jetstream.api import create_consumer, find_consumer
from tests.conftest import StartServer, settings_for
from tests.integration.commanding import Add, GatedStore, Line, counting, opened, until
from tests.proxy import TcpProxy

QUICK = 25.0
"""Seconds: less than the 30 that the server waits for an acknowledgement."""


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def store(line: Line) -> AsyncIterator[GatedStore]:
    async with GatedStore(line.client, line.domain.codec) as store:
        yield store


async def started(worker: CommandWorker) -> asyncio.Task[None]:
    task = asyncio.create_task(worker.run())
    await asyncio.wait_for(worker.ready.wait(), QUICK)
    return task


async def test_an_idle_worker_stops_immediately(line: Line) -> None:
    before = asyncio.all_tasks()
    worker = line.worker()
    task = await started(worker)
    worker.stop()
    worker.stop()
    await asyncio.wait_for(task, QUICK)
    assert asyncio.all_tasks() <= before | {task}


async def test_a_worker_stopped_before_it_runs_takes_nothing(line: Line) -> None:
    await line.commands.send(Add(), "c1")
    worker = line.worker()
    worker.stop()
    await asyncio.wait_for(worker.run(), QUICK)
    assert worker.handled == 0
    assert await line.queued() == 1
    async with line.working():
        await asyncio.wait_for(line.until_done(), QUICK)


async def test_stopping_finishes_what_is_in_flight_and_requeues_the_rest_immediately(
    line: Line, store: GatedStore, settings: Settings
) -> None:
    gate = store.close("c1")
    for number in range(60):
        await line.commands.send(Add(amount=number), "c1")
    stopped = line.worker(store=store, in_flight=4)
    task = await started(stopped)
    await store.until_begun(1)
    stopped.stop()
    async with (
        connect(settings) as other,
        opened(other, line.domain) as second,
        second.working() as worker,
    ):
        # All but the one under way, long before their time to be acknowledged is over.
        await asyncio.wait_for(until(lambda: has_handled(worker, 59)), QUICK)
        assert not task.done()
        await until(lambda: is_queued(line, 1))
        gate.set()
        await asyncio.wait_for(task, QUICK)
        await line.until_done()
    assert (stopped.handled, worker.handled) == (1, 59)
    events = await line.read("c1")
    assert sorted(event.data.amount for event in events) == list(range(60))  # type: ignore[attr-defined]


async def is_queued(line: Line, count: int) -> bool:
    return await line.queued() == count


async def has_handled(worker: CommandWorker, count: int) -> bool:
    return worker.handled >= count


async def test_what_waits_for_its_turn_among_many_aggregates_is_requeued_too(
    line: Line, store: GatedStore
) -> None:
    gates = [store.close(f"c{number}") for number in range(30)]
    for number in range(30):
        await line.commands.send(Add(), f"c{number}")
    stopped = line.worker(store=store, in_flight=2)
    task = await started(stopped)
    await store.until_begun(2)
    stopped.stop()
    async with line.working() as worker:
        await asyncio.wait_for(until(lambda: has_handled(worker, 28)), QUICK)
    for gate in gates:
        gate.set()
    await asyncio.wait_for(task, QUICK)
    assert len(store.begun) == 2
    await line.until_done()
    assert await line.log_size() == 30


async def test_a_cancelled_worker_leaves_its_commands_to_be_redelivered(
    line: Line, store: GatedStore
) -> None:
    before = asyncio.all_tasks()
    store.close("c1")
    for number in range(20):
        await line.commands.send(Add(amount=number), "c1")
    task = await started(line.worker(store=store, ack_wait=1.0))
    await store.until_begun(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() <= before | {task}
    assert await line.queued() == 20
    async with line.working(ack_wait=1.0):
        await line.until_done()
    events = await line.read("c1")
    assert sorted(event.data.amount for event in events) == list(range(20))  # type: ignore[attr-defined]


async def test_a_worker_stops_while_it_is_disconnected(line: Line) -> None:
    async with (
        TcpProxy(line.client) as proxy,
        connect(settings_for(proxy.url)) as client,
        opened(client, line.domain) as far,
    ):
        worker = far.worker()
        task = await started(worker)
        with proxy.refusing():
            proxy.cut()
            worker.stop()
            await asyncio.wait_for(task, QUICK)


async def test_a_connection_closed_for_good_ends_the_worker_with_a_plain_error(
    line: Line, settings: Settings
) -> None:
    client = await Client.open(settings)
    async with opened(client, line.domain) as far:
        task = await started(far.worker())
        await client.close()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(task, QUICK)


async def test_a_worker_reports_that_its_stream_is_missing(
    client: Client, line: Line, domain_name: str
) -> None:
    await client.api(f"STREAM.DELETE.{line.subjects.command_stream}")
    with pytest.raises(StreamMissing, match=line.subjects.command_stream):
        await asyncio.wait_for(line.worker().run(), QUICK)


async def test_a_worker_reports_how_its_consumer_differs(line: Line) -> None:
    spec = worker_consumer(line.domain.codec)
    other = {**spec.settings, "max_ack_pending": 7}
    await create_consumer(line.client, spec.stream, spec.name, other)
    with pytest.raises(StreamDrift) as raised:
        await asyncio.wait_for(line.worker().run(), QUICK)
    assert raised.value.differences == {"max_ack_pending": (10_000, 7)}


async def test_the_ack_wait_of_an_earlier_release_stays_and_is_reported(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """Its processes would not start with another one."""
    spec = worker_consumer(line.domain.codec)
    for ack_wait, reported in ((30.0, 0), (5.0, 1)):
        async with line.working(ack_wait=ack_wait):
            info = await find_consumer(line.client, spec.stream, spec.name)
            assert info is not None
            assert info.config["ack_wait"] == 30e9
            assert (
                caplog.text.count(f"nats consumer edit {spec.stream} worker --wait=5s") == reported
            )


async def test_workers_with_different_in_flight_share_a_consumer(line: Line) -> None:
    async with line.working(in_flight=2), line.working(in_flight=200):
        outcome = await line.commands.execute(Add(), "c1")
    assert outcome.status == "success"


async def test_a_consumer_that_is_deleted_is_recreated(line: Line) -> None:
    async with line.working():
        await line.commands.execute(Add(), "c1")
        await delete_consumer(line)
        outcome = await line.commands.execute(Add(), "c1", timeout=20)
    assert outcome.version == 2


async def test_a_consumer_that_is_deleted_with_commands_in_flight_leads_to_no_second_outcome(
    line: Line, store: GatedStore
) -> None:
    gate = store.close("c1")
    executed = [asyncio.create_task(line.commands.execute(Add(), "c1")) for _ in range(3)]
    async with line.working(store=store):
        await store.until_begun(1)
        await delete_consumer(line)
        await until(lambda: is_pulled(line))
        gate.set()
        outcomes = [await each for each in executed]
        await line.until_done()
    assert sorted(outcome.version for outcome in outcomes) == [1, 2, 3]
    assert await line.log_size() == 3


async def test_a_consumer_recreated_by_another_program_ends_the_worker_and_names_the_difference(
    line: Line,
) -> None:
    task = await started(line.worker())
    await until(lambda: is_pulled(line))
    stream = line.subjects.command_stream
    config = {"name": "worker", "durable_name": "worker", "ack_policy": "explicit"}
    await delete_consumer(line)
    await line.client.api(
        f"CONSUMER.CREATE.{stream}.worker",
        {"stream_name": stream, "config": {**config, "max_deliver": 3}, "action": "create"},
    )
    with pytest.raises(StreamDrift, match="max_deliver is 3, declared -1"):
        await asyncio.wait_for(task, QUICK)


async def delete_consumer(line: Line) -> None:
    await line.client.api(f"CONSUMER.DELETE.{line.subjects.command_stream}.worker")


async def is_pulled(line: Line) -> bool:
    """Whether there is a consumer, and a worker waits at it."""
    with suppress(ClientError):
        info = await line.client.api(f"CONSUMER.INFO.{line.subjects.command_stream}.worker")
        return bool(info["num_waiting"])
    return False


async def test_a_worker_without_permissions_reports_that(
    start_server: StartServer, domain_name: str
) -> None:
    users = """
        authorization { users = [
          { user: all, password: all }
          { user: few, password: few, permissions: { subscribe: ["_INBOX.>"], publish: "x.>" } }
        ] }
    """
    server = await start_server(extra_config=users)
    domain = counting(domain_name)

    def as_user(name: str) -> Client:
        auth = AuthSettings(user=name, password=Secret(name))
        return connect(settings_for(server.url, auth=auth))

    async with as_user("all") as client, opened(client, domain) as line, as_user("few") as few:
        worker = CommandWorker(few, domain.codec, line.handler())
        with pytest.raises(PermissionDenied, match=r"CONSUMER\.CREATE"):
            await asyncio.wait_for(worker.run(), QUICK)
