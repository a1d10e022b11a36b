"""A replica that is made to lag: its readers still see what was acknowledged.

Of three servers n0 leads the log, and nothing that it sends reaches n2, which still serves
consumers and direct gets. All requests go to n1.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import msgspec
import pytest
import pytest_asyncio

from eventstore.audit import VerifySummary, verify
from eventstore.client.client import Client, connect
from eventstore.commands import StateCache
from eventstore.config import AuthSettings, Secret, StreamSettings
from eventstore.errors import ClientError
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from eventstore.store import STREAM_EXISTS
from eventstore.store import log as raw_log
from eventstore.store.store import EventStore
from eventstore.transfer.exporter import export_to
from tests.conftest import settings_for
from tests.integration.commanding import (
    Add,
    AddEach,
    RaiseTo,
    Take,
    accepted,
    counting,
    opened,
    until,
)
from tests.integration.ledger import Deposited, declare_log, ledger, read, read_all
from tests.ports import free_ports
from tests.slow_routes import SlowRoutes

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = ("n0", "n1", "n2")
ACCOUNTS = """
accounts {
  SYS { users: [{user: sys, password: sys}] }
  APP { jetstream: enabled, users: [{user: app, password: app}] }
}
system_account: SYS
no_auth_user: app
"""


class Cluster:
    """Three servers whose routes can be blocked, a client of n1, and an unrestricted one."""

    def __init__(self, routes: SlowRoutes, client: Client, system: Client) -> None:
        self.client = client
        self._routes = routes
        self._system = system

    @asynccontextmanager
    async def lagging(self, stream: str) -> AsyncIterator[None]:
        """Inside the block, n2 receives nothing from n0, which leads the stream."""
        # Consumers are placed by the cluster's leader, from which n2 must still receive.
        await until(lambda: _is_led(self._system, "META.LEADER.STEPDOWN", "n1"))
        await until(lambda: _is_led(self.client, f"STREAM.LEADER.STEPDOWN.{stream}", "n0"))
        await until(lambda: self._is_served(stream))
        with self._routes.held("n0", "n2"):
            yield

    async def _is_served(self, stream: str) -> bool:
        """Whether n2 answers direct gets, which it does some time after it has caught up."""
        wanted = {"account": "APP", "test": f"$JS.API.DIRECT.GET.{stream}"}
        question = msgspec.json.encode({"server_name": "n2", "subscriptions": True, **wanted})
        answer = await self._system.request("$SYS.REQ.SERVER.PING.SUBSZ", question)
        return msgspec.json.decode(answer.data)["data"].get("subscriptions_list") is not None


async def _is_led(client: Client, stepdown: str, server: str) -> bool:
    """Whether a server leads already; otherwise it is asked to."""
    try:
        await client.api(stepdown, {"placement": {"preferred": server}}, timeout=1.0)
    except ClientError as error:
        return "is already leader" in str(error)
    return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        ports = dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True))
        routes = await stack.enter_async_context(SlowRoutes(ports))
        servers = [
            EmbeddedServer(
                tmp_path_factory.mktemp(name),
                extra_config=f"server_name: {name}\n{ACCOUNTS}{routes.config(name)}",
            )
            for name in SERVERS
        ]
        for server in servers:
            stack.push_async_callback(server.stop)
        await asyncio.gather(*(server.start() for server in servers))
        url = servers[1].url
        client = await stack.enter_async_context(connect(settings_for(url)))
        auth = AuthSettings(user="sys", password=Secret("sys"))
        system = await stack.enter_async_context(connect(settings_for(url, auth=auth)))
        await until(lambda: _is_whole(client), 50)
        yield Cluster(routes, client, system)


async def _is_whole(client: Client) -> bool:
    """Whether the servers have found each other."""
    probe = {"name": "PROBE", "subjects": ["probe"], "num_replicas": len(SERVERS)}
    with suppress(ClientError):
        await client.api("STREAM.CREATE.PROBE", probe, timeout=0.5)
        return True
    return False


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return ledger(domain_name)


@pytest_asyncio.fixture(loop_scope="module")
async def store(cluster: Cluster, codec: Codec) -> AsyncIterator[EventStore]:
    await until(lambda: _is_declared(cluster.client, codec), 50)
    async with EventStore(cluster.client, codec) as store:
        yield store


async def _is_declared(client: Client, codec: Codec) -> bool:
    """Declare the log; a request that comes while the cluster elects a leader has no answer."""
    with suppress(ClientError):
        await declare_log(client, codec, StreamSettings(replicas=3))
        return True
    return False


async def _read(client: Client, store: EventStore) -> int:
    return len(await read_all(store))


async def _read_until_live(client: Client, store: EventStore) -> int:
    count = 0
    async with aclosing(store.pages(live=True)) as pages:
        async for page in pages:
            count += len(page.events)
            if page.pending == 0:
                break
    return count


async def _verify(client: Client, store: EventStore) -> int:
    summary = VerifySummary()
    assert [each async for each in verify(client, store.codec, summary=summary)] == []
    return summary.events


async def _export(client: Client, store: EventStore) -> int:
    return (await export_to(client, store.codec.subjects, io.BytesIO())).events


@pytest.mark.parametrize("count_all", [_read, _read_until_live, _verify, _export])
async def test_all_acknowledged_events_are_read(
    cluster: Cluster,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    count_all: Callable[[Client, EventStore], Awaitable[int]],
) -> None:
    monkeypatch.setattr(raw_log, "_LAG_SECONDS", 0.02)
    await store.append("account", "a1", [Deposited()] * 3)
    async with cluster.lagging(store.codec.subjects.log_stream):
        await store.append("account", "a1", [Deposited()] * 2)
        while "lags behind its leader" not in caplog.text:  # one in three consumers does
            assert await count_all(cluster.client, store) == 5


async def test_a_replica_that_catches_up_is_waited_for(
    cluster: Cluster, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    waiting: set[asyncio.Task[int]] = set()
    await store.append("account", "a1", [Deposited()] * 3)
    async with cluster.lagging(store.codec.subjects.log_stream):
        await store.append("account", "a1", [Deposited()] * 2)
        while not waiting:
            task = asyncio.create_task(_read(cluster.client, store))
            _, waiting = await asyncio.wait([task], timeout=0.3)
    assert await task == 5
    assert caplog.text == ""


async def test_an_aggregate_is_read_up_to_the_leaders_end(
    cluster: Cluster, store: EventStore
) -> None:
    await store.append("account", "a1", [Deposited()] * 3)
    async with cluster.lagging(store.codec.subjects.log_stream):
        appended = await store.append("account", "a1", [Deposited()] * 2)
        while len(await read(store, "a1")) == 5:  # one in so many is answered by the replica
            pass
        for _ in range(30):
            assert len(await read(store, "a1", leader=True)) == 5
            assert await store.head("account", "a1", leader=True) == appended.head


async def test_what_is_read_without_a_consumer_has_all_acknowledged_events(
    cluster: Cluster, store: EventStore
) -> None:
    await store.append("account", "a1", [Deposited()] * 3)
    async with cluster.lagging(store.codec.subjects.log_stream):
        last = await store.append("account", "a1", [Deposited()] * 2)
        for _ in range(12):  # one in so many is answered by the replica
            assert len((await store.read_page()).events) == 5
            assert await read_all(store, limit=9) == await read_all(store, until=5)
            newest = [event.position for event in await read_all(store, backwards=True)]
            assert newest == [5, 4, 3, 2, 1]
            assert len(await read_all(store, aggregate="account")) == 5
            backwards = await read(store, "a1", backwards=True, leader=True)
            assert [event.version for event in backwards] == [5, 4, 3, 2, 1]
            assert [each.version for each in await read(store, "a1", after=4, leader=True)] == [5]
            found = await store.last("account", "a1", leader=True)
            assert found is not None
            assert found.id == last.event_ids[-1]
            assert await store.find("account", "a1", found.id) == found
        assert await store.log_end() == 5


async def test_an_aggregate_exists_if_only_the_leader_has_it(
    cluster: Cluster, store: EventStore
) -> None:
    async with (
        cluster.lagging(store.codec.subjects.log_stream),
        EventStore(cluster.client, store.codec) as other,
    ):
        for number in range(12):
            await store.append("account", f"n{number}", Deposited())
            await other.append("account", f"n{number}", Deposited(), expected=STREAM_EXISTS)


@pytest.mark.parametrize("every", [None, 2], ids=["no snapshots", "snapshots"])
async def test_decisions_and_repeats_are_correct_without_a_state_cache(
    cluster: Cluster, domain_name: str, caplog: pytest.LogCaptureFixture, every: int | None
) -> None:
    domain = counting(domain_name, snapshot_every=every)
    async with opened(cluster.client, domain, StreamSettings(replicas=3)) as line:
        handler = line.handler(states=StateCache(0))
        await handler.handle(accepted(Add()))
        async with cluster.lagging(line.subjects.log_stream):
            for total in range(2, 12):
                command = accepted(AddEach(amounts=[-1, 2]))
                first = await handler.handle(command)
                take = await handler.handle(accepted(Take(amount=total + 1)))
                same = await handler.handle(accepted(RaiseTo(total=total)))
                assert first.status == "success"
                assert take.message == f"there are {total}, not {total + 1}"
                assert same.message == "nothing to change"
                assert await handler.handle(command) == first
            assert await line.log_size() == 1 + 10 * 2
    assert "ignored" not in caplog.text  # snapshots are newer than what the replica has
