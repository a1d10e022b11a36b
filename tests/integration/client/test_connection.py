"""What `Connection` corrects in nats-py, one test each."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from eventstore.client.client import Client, Msg, connect
from eventstore.client.connection import Connection
from eventstore.config import RetrySettings
from eventstore.errors import ConnectFailed, ConnectionLost, RequestTimeout
from eventstore.server.embedded import EmbeddedServer
from tests.broken_peer import INFO, BrokenPeer
from tests.conftest import settings_for
from tests.processes import freeze
from tests.proxy import TcpProxy

BOUND = 10.0


async def test_a_ping_follows_what_was_published_before_it() -> None:
    async with BrokenPeer() as peer, connect(settings_for(peer.url)) as client:
        await client.publish("a", b"payload")
        await client.flush()
        assert peer.received.endswith(b"PUB a  7\r\npayload\r\nPING\r\n")


async def test_the_late_pong_of_a_cancelled_flush_is_ignored(
    nats_server: EmbeddedServer,
) -> None:
    async with TcpProxy(nats_server) as proxy, connect(settings_for(proxy.url)) as client:
        proxy.hold()
        with pytest.raises(RequestTimeout, match=r"flush: no answer after 0\.01 s"):
            await client.flush(0.01)
        await proxy.until_held(b"PONG")
        proxy.release()
        await client.flush()
        assert client.nats.stats["reconnects"] == 0


async def test_an_error_while_reading_reconnects(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconnected = asyncio.Event()
    client.on_reconnect(reconnected.set)

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    with monkeypatch.context() as broken:
        broken.setattr(Connection, "_process_msg", fail)
        await client.publish(f"{client.inbox_prefix}.0")
        await reconnected.wait()
    assert (await client.api("INFO"))["streams"] >= 0


async def fill(client: Client, server: EmbeddedServer) -> None:
    """Have the server hang, and publish until the socket takes no more."""
    freeze(server.pid)
    while client.nats.pending_data_size < 4_000_000:
        await client.publish("a", b"filler" + bytes(1_000_000))
        await asyncio.sleep(0)


def go_on(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGCONT)


async def test_unsent_messages_are_dropped_when_the_connection_breaks(
    server: EmbeddedServer,
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def note(message: Msg) -> None:
        await received.put(message.data)

    async with TcpProxy(server) as proxy, connect(settings_for(proxy.url)) as client:
        await client.subscribe("b", note)
        await fill(client, server)
        await client.publish("b", b"unsent")
        reconnected = asyncio.Event()
        client.on_reconnect(reconnected.set)
        proxy.cut()
        go_on(server)
        await reconnected.wait()
        await client.publish("b", b"after")
        assert await received.get() == b"after"


async def test_a_dead_peer_does_not_block_reconnecting(server: EmbeddedServer) -> None:
    async with connect(settings_for(server.url)) as client:
        lost = asyncio.Event()
        client.on_disconnect(lost.set)
        await fill(client, server)
        await client.nats.force_reconnect()
        async with asyncio.timeout(BOUND):
            await lost.wait()
        go_on(server)
        await client.wait_connected(BOUND)


async def test_stuck_connects_leave_no_socket_open(nats_server: EmbeddedServer) -> None:
    retry = RetrySettings(
        reconnect_delay_ms=1,
        max_reconnect_delay_ms=1,
        reconnect_jitter_ms=0,
        connect_timeout_ms=500,
    )
    async with (
        TcpProxy(nats_server) as proxy,
        connect(settings_for(proxy.url, retry=retry)) as client,
    ):
        proxy.hold()
        proxy.cut()
        while client.nats.server_pool[0].reconnects < 3:
            await proxy.until_held(b"INFO")
            await asyncio.sleep(0)
        assert proxy.connections <= 2
        proxy.cut()
        proxy.release()
        await client.wait_connected(BOUND)


async def test_an_end_of_file_is_no_successful_connect() -> None:
    def hang_up(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with BrokenPeer(on_connect=hang_up) as peer:
        with pytest.raises(ConnectFailed, match="unexpected EOF"):
            await Client.open(settings_for(peer.url))


async def test_nothing_is_sent_unencrypted_if_tls_is_required() -> None:
    async with BrokenPeer() as peer:
        url = peer.url.replace("nats://", "tls://ann:s3cret@")
        with pytest.raises(ConnectFailed, match="secure connection not available"):
            await Client.open(settings_for(url))
        assert peer.received == b""


async def test_an_error_of_the_server_is_logged_and_reconnected_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with BrokenPeer() as peer, connect(settings_for(peer.url)) as client:
        reconnected = asyncio.Event()
        client.on_reconnect(reconnected.set)
        request = asyncio.create_task(client.request("a", timeout=3600))
        await client.flush()
        peer.send(b"-ERR 'User Authentication Expired'\r\n")
        with pytest.raises(ConnectionLost):
            await request
        await reconnected.wait()
        await client.flush()
    assert "nats: user authentication expired" in caplog.text


async def test_a_stale_connection_is_reconnected() -> None:
    async with BrokenPeer() as peer, connect(settings_for(peer.url)) as client:
        reconnected = asyncio.Event()
        client.on_reconnect(reconnected.set)
        peer.send(b"-ERR 'Stale Connection'\r\n")
        await reconnected.wait()


async def test_a_connection_closed_during_the_first_ping_is_a_failed_connect() -> None:
    def welcome_and_hang_up(writer: asyncio.StreamWriter) -> None:
        writer.write(b"PONG\r\n")
        writer.close()

    async with BrokenPeer(on_connect=welcome_and_hang_up) as peer:
        with pytest.raises(ConnectFailed, match=f"{peer.url} closed the new connection"):
            await Client.open(settings_for(peer.url))


async def test_a_server_without_a_version() -> None:
    async with BrokenPeer(info={**INFO, "version": ""}) as peer:
        connection = Connection()
        await connection.connect(peer.url)
        assert connection.server_version == ""
        await connection.close()
