from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.proxy import TcpProxy


class Peer:
    """An echo server that keeps what it received."""

    def __init__(self) -> None:
        self.port = 0
        self.received = bytearray()
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                self.received += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield peer


@pytest.fixture
async def proxy(peer: Peer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(peer.port) as proxy:
        yield proxy


@pytest.fixture
async def connected(
    proxy: TcpProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.close()


Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ended(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_forwards_and_counts(proxy: TcpProxy, connected: Connected) -> None:
    reader, writer = connected
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert proxy.passed == {"to_server": 5, "to_client": 5}
    assert proxy.connections == 1


async def test_passes_the_end_of_the_client_on(peer: Peer, connected: Connected) -> None:
    reader, writer = connected
    writer.write(b"last")
    writer.write_eof()
    assert await reader.read() == b"last"
    assert peer.ended.is_set()


async def test_cut_breaks_both_sides(proxy: TcpProxy, peer: Peer, connected: Connected) -> None:
    reader, writer = connected
    writer.write(b"hello")
    await reader.readexactly(5)
    proxy.cut()
    assert await ended(reader) == b""
    await peer.ended.wait()


async def test_what_is_held_reached_the_server_and_is_released(
    proxy: TcpProxy, peer: Peer, connected: Connected
) -> None:
    reader, writer = connected
    proxy.hold()
    writer.write(b"hello")
    await proxy.until_held(b"hello")
    assert peer.received == b"hello"
    assert proxy.passed["to_client"] == 0
    proxy.release()
    assert await reader.readexactly(5) == b"hello"


async def test_what_is_held_is_lost_by_a_cut(proxy: TcpProxy, connected: Connected) -> None:
    reader, writer = connected
    proxy.hold()
    writer.write(b"hello")
    await proxy.until_held(b"hello")
    proxy.cut()
    assert await ended(reader) == b""


async def test_refuses_for_a_while(proxy: TcpProxy) -> None:
    with proxy.refusing():
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ended(reader) == b""
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    writer.close()


async def test_a_dead_server_ends_the_connection() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with TcpProxy(port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ended(reader) == b""
        writer.close()


@pytest.mark.parametrize(("forward", "received"), [(True, b"one two three"), (False, b"one ")])
async def test_cuts_when_a_pattern_passes_to_the_server(
    proxy: TcpProxy, peer: Peer, connected: Connected, forward: bool, received: bytes
) -> None:
    reader, writer = connected
    fired = proxy.cut_after(b"two", "to_server", forward=forward)
    writer.write(b"one two three")
    await fired.wait()
    assert await ended(reader) == b""
    await peer.ended.wait()
    assert peer.received == received


async def test_cuts_when_a_pattern_passes_to_the_client_after_the_server_had_it_all(
    proxy: TcpProxy, peer: Peer, connected: Connected
) -> None:
    reader, writer = connected
    fired = proxy.cut_after(b"two", "to_client", forward=False)
    writer.write(b"one two")
    await fired.wait()
    assert await ended(reader) == b"one "
    assert peer.received == b"one two"


async def test_finds_a_pattern_across_two_chunks(proxy: TcpProxy, connected: Connected) -> None:
    reader, writer = connected
    fired = proxy.cut_after(b"two", "to_server", forward=False)
    writer.write(b"one tw")
    assert await reader.readexactly(6) == b"one tw"
    writer.write(b"o three")
    await fired.wait()
    assert await ended(reader) == b""


async def test_a_trigger_fires_once(proxy: TcpProxy, connected: Connected) -> None:
    reader, writer = connected
    fired = proxy.cut_after(b"x", "to_server")
    writer.write(b"x")
    await fired.wait()
    await ended(reader)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    writer.close()
