"""Appending while connections break and servers die: recorded once, or known to be unknown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventstore.client.client import Client, connect
from eventstore.client.connection import Connection
from eventstore.client.protocol import header_block, read_headers
from eventstore.config import AuthSettings, Secret
from eventstore.errors import (
    AppendUnknown,
    ClientError,
    Conflict,
    ConnectionLost,
    JetStreamError,
    PermissionDenied,
    RequestTimeout,
    StreamMissing,
)
from eventstore.messages.codec import Codec
from eventstore.messages.events import NewEvent
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.metrics import Metrics
from eventstore.store.append import ANY, NO_STREAM, Append, Expected
from eventstore.store.head import NOTHING, Head
from eventstore.store.store import EventStore
from tests.conftest import StartServer, settings_for
from tests.connection import SOON
from tests.integration.ledger import Deposited, Opened, declare_log, fixed, last_position, read
from tests.proxy import TcpProxy

EXPECTATIONS: list[Expected] = [ANY, NO_STREAM, NOTHING]


@pytest.fixture
async def proxy(nats_server: EmbeddedServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(nats_server) as proxy:
        yield proxy


@asynccontextmanager
async def store_behind(proxy: TcpProxy, codec: Codec, **options: Any) -> AsyncIterator[EventStore]:
    """A store whose connection a test can break."""
    async with (
        connect(settings_for(proxy.url, codec.domain)) as client,
        EventStore(client, codec, **options) as store,
    ):
        yield store


@pytest.mark.parametrize("expected", EXPECTATIONS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("own_ids", [True, False])
async def test_an_append_whose_acknowledgement_is_lost_succeeds_and_is_recorded_once(
    store: EventStore, proxy: TcpProxy, codec: Codec, expected: Expected, count: int, own_ids: bool
) -> None:
    events = [fixed() if own_ids else NewEvent(data=Deposited()) for _ in range(count)]
    async with store_behind(proxy, codec) as broken:
        cut = proxy.cut_after(b'"seq":', "to_client", forward=False)
        appended = await broken.append("account", "a1", events, expected=expected)
    assert cut.is_set()
    assert appended.duplicate
    stored = await read(store, "a1")
    assert tuple(event.id for event in stored) == appended.event_ids
    assert tuple(event.position for event in stored) == appended.positions
    assert appended.head == Head.after(stored[-1])


@pytest.mark.parametrize("count", [1, 2])
async def test_a_lost_acknowledgement_is_found_although_other_events_followed(
    store: EventStore, proxy: TcpProxy, codec: Codec, count: int
) -> None:
    await store.append("account", "a1", Opened())
    async with store_behind(proxy, codec) as broken, asyncio.TaskGroup() as group:
        head = await broken.head("account", "a1")
        proxy.hold()
        events = [Deposited()] * count
        ours = group.create_task(broken.append("account", "a1", events, expected=head))
        await proxy.until_held(b'"seq":')
        await store.append("account", "a1", Deposited(), expected=1 + count)
        proxy.cut()
        proxy.release()
    assert ours.result().version == 1 + count
    assert ours.result().duplicate
    assert len(await read(store, "a1")) == 2 + count


@pytest.mark.parametrize("count", [1, 2])
async def test_an_append_without_a_clear_answer_whose_stream_is_gone_is_unknown(
    store: EventStore, client: Client, proxy: TcpProxy, codec: Codec, count: int
) -> None:
    stream = codec.subjects.log_stream
    async with store_behind(proxy, codec) as broken, asyncio.TaskGroup() as group:
        proxy.hold()
        ours = group.create_task(_unknown(broken, [NewEvent(data=Deposited())] * count))
        await proxy.until_held(b'"seq":')
        await client.api(f"STREAM.DELETE.{stream}")
        proxy.cut()
        proxy.release()
    assert f"stream {stream} does not exist" in str(ours.result())
    assert isinstance(ours.result().__cause__, StreamMissing)


async def _unknown(store: EventStore, events: list[NewEvent]) -> AppendUnknown:
    with pytest.raises(AppendUnknown, match=r"unknown: .* send the same append again") as unknown:
        await store.append("account", "a1", events, expected=NO_STREAM)
    return unknown.value


@pytest.mark.parametrize("expected", EXPECTATIONS)
@pytest.mark.parametrize(("count", "pattern"), [(1, b"HPUB"), (3, b"HPUB"), (3, b"Commit")])
async def test_an_append_that_never_reached_the_server_is_repeated_and_recorded_once(
    store: EventStore,
    proxy: TcpProxy,
    codec: Codec,
    expected: Expected,
    count: int,
    pattern: bytes,
) -> None:
    async with store_behind(proxy, codec) as broken:
        cut = proxy.cut_after(pattern, "to_server", forward=False)
        appended = await broken.append("account", "a1", [Deposited()] * count, expected=expected)
    assert cut.is_set()
    assert not appended.duplicate
    stored = await read(store, "a1")
    assert tuple(event.id for event in stored) == appended.event_ids
    assert tuple(event.position for event in stored) == appended.positions


async def test_only_a_repeated_request_is_counted_as_a_retry(
    proxy: TcpProxy, codec: Codec, store: EventStore
) -> None:
    metrics = Metrics()
    retried = 'eventstore_retries_total{operation="append"} 1.0'
    async with store_behind(proxy, codec, telemetry=metrics) as broken:
        await broken.append("account", "a1", Opened())
        proxy.cut_after(b'"seq":', "to_client", forward=False)
        await broken.append("account", "a1", Deposited())  # it stands, and is only looked for
        assert "append" not in metrics.render().decode().partition("retries_total{")[2]
        proxy.cut_after(b"HPUB", "to_server", forward=False)
        await broken.append("account", "a1", Deposited())
    assert retried in metrics.render().decode()
    assert len(await read(store, "a1")) == 3


async def test_several_aggregates_are_recorded_once_if_the_acknowledgement_is_lost(
    store: EventStore, proxy: TcpProxy, codec: Codec
) -> None:
    async with store_behind(proxy, codec) as broken:
        proxy.cut_after(b'"seq":', "to_client", forward=False)
        first, second = await broken.append_all(
            Append(aggregate="account", aggregate_id="a1", events=[Opened(), Deposited()]),
            Append(aggregate="account", aggregate_id="a2", events=[Opened()], expected=NO_STREAM),
        )
    assert [event.id for event in await read(store, "a1")] == list(first.event_ids)
    assert [event.id for event in await read(store, "a2")] == list(second.event_ids)


async def test_a_conflict_is_still_found_out_after_a_lost_connection(
    store: EventStore, proxy: TcpProxy, codec: Codec
) -> None:
    await store.append("account", "a1", Opened())
    async with store_behind(proxy, codec) as broken:
        cut = proxy.cut_after(b"HPUB", "to_server", forward=False)
        with pytest.raises(Conflict) as conflict:
            await broken.append("account", "a1", Deposited(), expected=NOTHING)
    assert cut.is_set()
    assert conflict.value.actual == 1


@pytest.mark.parametrize("count", [1, 3])
async def test_an_append_that_gets_no_answer_is_unknown_and_later_recorded_once(
    store: EventStore, proxy: TcpProxy, codec: Codec, count: int
) -> None:
    events = [fixed() for _ in range(count)]
    async with store_behind(proxy, codec, append_timeout=0.5, request_timeout=0.1) as broken:
        await broken.append("account", "other", Opened())
        proxy.hold()
        with pytest.raises(AppendUnknown, match=r"unknown: .* send the same append again"):
            await broken.append("account", "a1", events, expected=NO_STREAM)
        proxy.release()
        appended = await broken.append("account", "a1", events, expected=NO_STREAM)
    assert appended.duplicate
    assert len(await read(store, "a1")) == count


@pytest.mark.parametrize("expected", [ANY, 1])
async def test_an_append_whose_head_is_never_answered_is_not_called_unknown(
    store: EventStore, proxy: TcpProxy, codec: Codec, expected: Expected
) -> None:
    async with store_behind(proxy, codec, append_timeout=0.3, request_timeout=0.1) as broken:
        proxy.hold()
        with pytest.raises(RequestTimeout, match="nothing was recorded"):
            await broken.append("account", "a1", Opened(), expected=expected)
        proxy.release()
    assert not await read(store, "a1")


async def test_an_append_that_found_no_connection_is_not_called_unknown(
    store: EventStore, proxy: TcpProxy, codec: Codec
) -> None:
    async with (
        connect(settings_for(proxy.url, codec.domain)) as client,
        EventStore(client, codec, append_timeout=0.3) as broken,
    ):
        with proxy.refusing():
            await _disconnect(client, proxy)
            with pytest.raises(ConnectionLost, match="nothing was recorded"):
                await broken.append("account", "a1", Opened(), expected=NO_STREAM)
        await client.wait_connected(5)
        assert (await broken.append("account", "a1", Opened(), expected=NO_STREAM)).version == 1
    assert len(await read(store, "a1")) == 1


async def _disconnect(client: Client, proxy: TcpProxy) -> None:
    noticed = asyncio.Event()
    forget = client.on_disconnect(noticed.set)
    proxy.cut()
    async with asyncio.timeout(SOON):
        await noticed.wait()
    forget()


async def test_an_append_waits_for_the_connection_to_come_back(
    store: EventStore, proxy: TcpProxy, codec: Codec
) -> None:
    async with (
        connect(settings_for(proxy.url, codec.domain)) as client,
        EventStore(client, codec) as broken,
        asyncio.TaskGroup() as group,
    ):
        with proxy.refusing():
            await _disconnect(client, proxy)
            waiting = group.create_task(broken.append("account", "a1", Opened()))
            await store.append("account", "a2", Opened())
            assert not waiting.done()
        assert (await waiting).version == 1


async def test_an_append_on_a_closed_client_fails_immediately(client: Client, codec: Codec) -> None:
    await declare_log(client, codec)
    async with EventStore(client, codec) as store:
        await client.close()
        async with asyncio.timeout(SOON):
            with pytest.raises(ConnectionLost):
                await store.append("account", "a1", Opened())


async def test_events_acknowledged_before_a_server_crash_are_there_once_after_it(
    server: EmbeddedServer, codec: Codec
) -> None:
    async with connect(settings_for(server.url, codec.domain)) as client:
        await declare_log(client, codec)
        async with EventStore(client, codec) as store:
            acknowledged: dict[str, list[str]] = {f"a{number}": [] for number in range(8)}
            crashed = asyncio.Event()
            halfway = asyncio.Event()

            async def write(aggregate_id: str) -> None:
                ids = acknowledged[aggregate_id]
                after = 0
                while after < 20:
                    after += crashed.is_set()
                    expected: Expected = ANY if len(ids) % 3 else len(ids)
                    events = [fixed() for _ in range(1 + len(ids) % 2)]
                    appended = await store.append(
                        "account", aggregate_id, events, expected=expected
                    )
                    ids.extend(appended.event_ids)
                    if len(ids) > 30:
                        halfway.set()

            async with asyncio.TaskGroup() as group:
                for aggregate_id in acknowledged:
                    group.create_task(write(aggregate_id))
                for _ in range(2):
                    halfway.clear()
                    await halfway.wait()
                    server.kill()
                    await server.start()
                crashed.set()

            for aggregate_id, ids in acknowledged.items():
                stored = await read(store, aggregate_id)
                assert [event.id for event in stored] == ids
            assert await last_position(client, codec) == sum(map(len, acknowledged.values()))


@pytest.mark.parametrize("count", [1, 2])
async def test_an_append_whose_server_died_ends_within_its_bound_and_succeeds_later(
    server: EmbeddedServer, codec: Codec, count: int
) -> None:
    async with TcpProxy(server) as proxy:
        async with connect(settings_for(server.url, codec.domain)) as client:
            await declare_log(client, codec)
        async with store_behind(proxy, codec, append_timeout=0.5) as store:
            events = [fixed() for _ in range(count)]
            proxy.hold()
            appending = asyncio.create_task(
                store.append("account", "a1", events, expected=NO_STREAM)
            )
            await proxy.until_held(b'"seq":')
            server.kill()
            proxy.cut()
            async with asyncio.timeout(SOON):
                with pytest.raises((AppendUnknown, ClientError)) as failure:
                    await appending
                assert isinstance(failure.value, AppendUnknown)
                with pytest.raises(ConnectionLost):
                    await store.append("account", "a1", events, expected=NO_STREAM)
            proxy.release()
            await server.start()
            for _ in range(20):
                try:
                    appended = await store.append("account", "a1", events, expected=NO_STREAM)
                    break
                except ClientError:
                    continue
            assert appended.duplicate
            assert len(await read(store, "a1")) == count


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_batch_that_fell_apart_is_repeated_as_another_batch(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """As if the leader changes in the middle of it: the rest of the batch is refused (10176)."""
    ids: list[str] = []
    send = Connection.send

    def losing(own: Connection, *message: Any) -> None:
        headers = read_headers(header_block(message[3] or ""))
        if headers.get("Nats-Batch-Sequence") == "1":
            ids.append(headers["Nats-Batch-Id"])
            if len(ids) <= lost:
                return
        send(own, *message)

    monkeypatch.setattr(Connection, "send", losing)
    appended = await store.append("account", "a1", [fixed(), fixed()], expected=NO_STREAM)
    assert not appended.duplicate
    assert len(set(ids)) == lost + 1
    assert [event.version for event in await read(store, "a1")] == [1, 2]


async def test_a_batch_that_always_falls_apart_is_refused_in_the_end(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.send

    def losing(own: Connection, *message: Any) -> None:
        if read_headers(header_block(message[3] or "")).get("Nats-Batch-Sequence") != "1":
            send(own, *message)

    monkeypatch.setattr(Connection, "send", losing)
    with pytest.raises(JetStreamError) as refusal:
        await store.append("account", "a1", [fixed(), fixed()], expected=NO_STREAM)
    assert refusal.value.err_code == 10176
    assert not await read(store, "a1")


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("expected", [ANY, NO_STREAM, NOTHING, 0])
@pytest.mark.parametrize("own_ids", [True, False])
async def test_a_forbidden_append_is_denied_immediately_and_not_unknown(
    start_server: StartServer, codec: Codec, count: int, expected: Expected, own_ids: bool
) -> None:
    rights = f'publish: {{ deny: "{codec.domain}.log.>" }}'
    users = (
        f"{{ user: ann, password: a }}, {{ user: eve, password: e, permissions: {{ {rights} }} }}"
    )
    server = await start_server(extra_config=f"authorization {{ users: [{users}] }}")
    async with (
        connect(
            settings_for(server.url, auth=AuthSettings(user="ann", password=Secret("a")))
        ) as allowed,
        connect(
            settings_for(server.url, auth=AuthSettings(user="eve", password=Secret("e")))
        ) as denied,
        EventStore(denied, codec) as store,
        asyncio.timeout(SOON),
    ):
        await declare_log(allowed, codec)
        events = [fixed() if own_ids else NewEvent(data=Deposited()) for _ in range(count)]
        with pytest.raises(PermissionDenied, match=r"log\.account\.a1"):
            await store.append("account", "a1", events, expected=expected)
        assert await last_position(allowed, codec) == 0


@pytest.mark.parametrize("forbidden", ["a1", "a2", "a3"])
async def test_an_append_of_which_one_aggregate_is_forbidden_is_denied_by_name(
    start_server: StartServer, codec: Codec, forbidden: str
) -> None:
    subject = codec.subjects.log("account", forbidden)
    rights = f'publish: {{ deny: "{subject}" }}'
    users = f"{{ user: eve, password: e, permissions: {{ {rights} }} }}"
    server = await start_server(extra_config=f"authorization {{ users: [{users}] }}")
    eve = settings_for(server.url, auth=AuthSettings(user="eve", password=Secret("e")))
    async with connect(eve) as client, EventStore(client, codec) as store, asyncio.timeout(SOON):
        await declare_log(client, codec)
        appends = [
            Append(aggregate="account", aggregate_id=each, events=[Opened(), Deposited()])
            for each in ("a1", "a2", "a3")
        ]
        with pytest.raises(PermissionDenied, match=re.escape(subject)):
            await store.append_all(*appends)
        assert await last_position(client, codec) == 0
        allowed = [each for each in appends if each.aggregate_id != forbidden]
        assert len(await store.append_all(*allowed)) == 2
