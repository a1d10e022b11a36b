"""Appending to a log of three replicas, whose answers to conflicts and repeats differ.

A conflicting write still in flight gives 10164 in place of 10071, a repeat `duplicate:true` in
place of a conflict, and reads may be answered by a follower that lags.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress

import pytest

from eventstore.client.client import Client, connect
from eventstore.config import StreamSettings
from eventstore.errors import ClientError, Conflict, TopologyError
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.append import ANY, NO_STREAM, Append, AppendResult, Expected
from eventstore.store.head import NOTHING
from eventstore.store.store import EventStore
from tests.conftest import settings_for
from tests.integration.ledger import Deposited, declare_log, fixed, read, read_all
from tests.ports import free_ports

ROUNDS = 50


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmbeddedServer]]:
    """Three servers on this machine that elect leaders among themselves."""
    ports = free_ports(3)
    routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
    servers = [
        EmbeddedServer(
            tmp_path_factory.mktemp(f"cluster{number}"),
            extra_config=f"server_name: n{number}\n"
            f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{routes}] }}',
        )
        for number, port in enumerate(ports)
    ]

    async def start() -> None:
        await asyncio.gather(*(server.start() for server in servers))

    async def stop() -> None:
        await asyncio.gather(*(server.stop() for server in servers))

    asyncio.run(start())
    yield servers
    asyncio.run(stop())


@pytest.fixture
async def clients(cluster: list[EmbeddedServer], codec: Codec) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(connect(settings_for(server.url, codec.domain)))
            for server in cluster
        ]
        async with asyncio.timeout(40):
            while not await _is_declared(opened[0], codec):
                pass
        yield opened


async def _is_declared(client: Client, codec: Codec) -> bool:
    """Declare the log, once the servers have found each other."""
    with suppress(ClientError, TopologyError):
        await client.api("STREAM.NAMES", timeout=0.2)
        await declare_log(client, codec, StreamSettings(replicas=3))
        return True
    return False


@pytest.fixture
async def stores(clients: list[Client], codec: Codec) -> AsyncIterator[list[EventStore]]:
    """A store on each server, so that two of them never ask the leader's own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(EventStore(client, codec)) for client in clients]


async def test_of_two_concurrent_writers_exactly_one_wins(stores: list[EventStore]) -> None:
    head = NOTHING
    count = 0
    for number in range(ROUNDS):
        events = [Deposited()] * (1 + number % 2)
        outcomes = await asyncio.gather(
            *(store.append("account", "a1", events, expected=head) for store in stores[:2]),
            return_exceptions=True,
        )
        (won,) = [outcome for outcome in outcomes if isinstance(outcome, AppendResult)]
        (lost,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert isinstance(lost, Conflict), lost
        head, count = won.head, count + len(events)
    stored = [event.version async for event in stores[0].read_all()]
    assert stored == list(range(1, count + 1))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("expected", [ANY, NO_STREAM, 0, NOTHING])
async def test_the_same_append_from_three_sides_concurrently_and_repeated_is_recorded_once(
    stores: list[EventStore], count: int, expected: Expected
) -> None:
    for number in range(5):
        aggregate_id = f"a{number}"
        events = [fixed() for _ in range(count)]
        answers = await asyncio.gather(
            *(store.append("account", aggregate_id, events, expected=expected) for store in stores)
        )
        answers += await asyncio.gather(
            *(store.append("account", aggregate_id, events, expected=expected) for store in stores)
        )
        assert len({answer.head for answer in answers}) == 1
        assert {answer.positions for answer in answers} == {answers[0].positions}
        assert [answer.duplicate for answer in answers].count(False) == 1
    assert len(await read_all(stores[0])) == 5 * count


async def test_mixed_parts_from_three_sides_concurrently_and_repeated_are_recorded_once(
    stores: list[EventStore],
) -> None:
    def to(aggregate_id: str, expected: Expected) -> Append:
        events = [fixed() for _ in range(2)]
        return Append(
            aggregate="account", aggregate_id=aggregate_id, events=events, expected=expected
        )

    for number in range(5):
        stock, order = f"stock{number}", f"order{number}"
        head = (await stores[0].append("account", stock, Deposited())).head
        appends = [to(order, NO_STREAM), to(stock, head.version if number % 2 else head)]
        answers = await asyncio.gather(*(store.append_all(*appends) for store in stores))
        for _ in range(2):
            await stores[1].append("account", stock, Deposited())
            await stores[1].append("account", order, Deposited())
            answers += await asyncio.gather(*(store.append_all(*appends) for store in stores))
        assert len({tuple(each.head for each in answer) for answer in answers}) == 1
        assert [answer[0].duplicate for answer in answers].count(False) == 1


async def test_nothing_is_lost_or_doubled_while_the_leader_changes(
    stores: list[EventStore], clients: list[Client], codec: Codec
) -> None:
    acknowledged: list[list[str]] = [[], [], []]
    changed = asyncio.Event()

    async def write(number: int) -> None:
        ids = acknowledged[number]
        while not changed.is_set() or len(ids) < 30:
            events = [fixed() for _ in range(1 + len(ids) % 2)]
            expected: Expected = ANY if len(ids) % 3 else len(ids)
            answer = await stores[number].append("account", f"a{number}", events, expected=expected)
            ids.extend(answer.event_ids)

    async def change_leaders() -> None:
        for _ in range(2):
            before = sum(map(len, acknowledged))
            while sum(map(len, acknowledged)) < before + 30:
                await clients[0].flush()
            await clients[0].api(f"STREAM.LEADER.STEPDOWN.{codec.subjects.log_stream}")
        changed.set()

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(write(number))
        group.create_task(change_leaders())
    for number, ids in enumerate(acknowledged):
        found = await read(stores[number], f"a{number}", leader=True)  # a replica may lag
        assert [event.id for event in found] == ids
    recorded = [event.id for event in await read_all(stores[0])]
    assert sorted(recorded) == sorted(event_id for ids in acknowledged for event_id in ids)
