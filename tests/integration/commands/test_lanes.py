"""Many commands at once: in order for each aggregate, side by side for many, and never too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from eventstore.client.client import Client
from eventstore.messages.envelope import new_id
from tests.integration.commanding import Add, GatedStore, Line, Sign, Take, counting, opened


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def store(line: Line) -> AsyncIterator[GatedStore]:
    async with GatedStore(line.client, line.domain.codec) as store:
        yield store


def amounts(events: list) -> list[int]:  # type: ignore[type-arg]
    return [event.data.amount for event in events]


async def test_200_commands_of_one_aggregate_are_carried_out_in_order(
    line: Line, store: GatedStore
) -> None:
    await asyncio.gather(*(line.commands.send(Add(amount=n), "c1") for n in range(200)))
    async with line.working(store=store):
        await line.until_done()
    assert amounts(await line.read("c1")) == list(range(200))
    assert store.max_concurrency == 1


async def test_an_aggregate_that_takes_long_does_not_hold_up_the_others(
    line: Line, store: GatedStore
) -> None:
    gate = store.close("slow")
    await asyncio.gather(*(line.commands.send(Add(amount=n), "slow") for n in range(20)))
    # The slow ones alone are more than may be under way at a time.
    async with line.working(store=store, in_flight=8):
        outcomes = [await line.commands.execute(Add(), f"c{number}") for number in range(30)]
        assert store.begun.count("slow") == 1
        gate.set()
        await line.until_done()
    assert {outcome.status for outcome in outcomes} == {"success"}
    assert amounts(await line.read("slow")) == list(range(20))


async def test_many_aggregates_are_worked_on_concurrently_and_never_more_than_in_flight(
    line: Line, store: GatedStore
) -> None:
    gates = [store.close(f"c{number}") for number in range(12)]
    await asyncio.gather(*(line.commands.send(Add(), f"c{number}") for number in range(12)))
    async with line.working(store=store, in_flight=5) as worker:
        await store.until_begun(5)
        # Others, which come later, have to wait as well.
        await line.commands.send(Add(), "c99")
        assert (len(store.begun), store.max_concurrency) == (5, 5)
        for gate in gates:
            gate.set()
        await line.until_done()
    assert len(store.begun) == 13
    assert store.max_concurrency == 5
    assert worker.handled == 13


async def test_what_is_pending_long_is_not_redelivered(line: Line, store: GatedStore) -> None:
    gate = store.close("slow")
    stream = line.subjects.command_stream
    extensions = 0
    often = asyncio.Event()

    async def hear(message: Msg) -> None:
        nonlocal extensions
        extensions += message.data == b"+WPI"
        if extensions >= 3 * 5:  # five times for each of the three, over longer than the wait
            often.set()

    await line.client.subscribe(f"$JS.ACK.{stream}.worker.>", hear)
    for number in range(3):
        await line.commands.send(Add(amount=number), "slow")
    async with line.working(store=store, ack_wait=0.6):
        await asyncio.wait_for(often.wait(), 20)
        consumer = await line.client.api(f"CONSUMER.INFO.{stream}.worker")
        gate.set()
        await line.until_done()
    assert (consumer["num_redelivered"], consumer["num_ack_pending"]) == (0, 3)
    assert amounts(await line.read("slow")) == [0, 1, 2]


async def test_a_thousand_commands_on_many_aggregates_each_have_an_outcome(line: Line) -> None:
    async with line.working(in_flight=16):
        outcomes = await asyncio.gather(
            *(
                line.commands.execute(Add(amount=1), f"c{number % 40}", timeout=40)
                for number in range(1_000)
            )
        )
    assert {outcome.status for outcome in outcomes} == {"success"}
    assert len({outcome.command_id for outcome in outcomes}) == 1_000
    for number in range(40):
        events = await line.read(f"c{number}")
        assert [event.version for event in events] == list(range(1, 26))


async def test_a_creating_command_without_an_id_is_in_the_queue_of_the_one_that_names_it(
    line: Line, store: GatedStore
) -> None:
    command_id = new_id()
    sent = await line.commands.send(Add(amount=5), command_id=command_id)
    await line.commands.send(Take(amount=5), sent.aggregate_id)
    await line.commands.send(Sign(), sent.aggregate_id)
    async with line.working(store=store):
        await line.until_done()
    assert [event.type for event in await line.read(sent.aggregate_id)] == [
        "Added",
        "Added",
        "Signed",
    ]
    assert store.max_concurrency == 1
