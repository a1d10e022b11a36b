"""A TCP proxy between a client and a server, that breaks the connection when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple, Self

from eventstore.client.client import Client
from eventstore.config import LocalAddress
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import url_of

Direction = Literal["to_server", "to_client"]

_CHUNK = 64 * 1024
_RECENT = 256  # a pattern may be that long and still lie across two chunks


class _Trigger(NamedTuple):
    pattern: bytes
    direction: Direction
    forward: bool
    fired: asyncio.Event


class _Side(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class TcpProxy:
    """Forwards to a server, a client's too, or to any port of 127.0.0.1, from a port of its own.

        async with TcpProxy(server) as proxy, connect(settings_for(proxy.url)) as client:
            fired = proxy.cut_after(b'"seq":', "to_client", forward=False)
            ...                 # the server stores, its acknowledgement is never seen

    `url` has the credentials of the server's, and its master keys. `passed` counts the bytes
    forwarded in each direction.
    """

    def __init__(self, upstream: EmbeddedServer | Client | int) -> None:
        self.passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self._upstream = url_of(upstream) if isinstance(upstream, Client) else upstream
        self._refusing = False
        self._holding: set[Direction] = set()
        self._held = bytearray()
        self._held_for: dict[asyncio.StreamWriter, tuple[Direction, bytearray]] = {}
        self._held_more = asyncio.Event()
        self._trigger: _Trigger | None = None
        self._sides: set[_Side] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._refusing = True
        self.cut()
        await asyncio.gather(*self._tasks)

    @property
    def url(self) -> str:
        if isinstance(self._upstream, int):
            return f"nats://127.0.0.1:{self.port}"
        if isinstance(self._upstream, str):
            return f"{self._upstream.rpartition(':')[0]}:{self.port}"
        server, _, _ = self._upstream.url.rpartition(":")
        return LocalAddress.of(f"{server}:{self.port}", self._upstream.master_key_file)

    @property
    def _upstream_port(self) -> int:
        if isinstance(self._upstream, str):
            return int(self._upstream.rpartition(":")[2])
        return self._upstream if isinstance(self._upstream, int) else self._upstream.port

    @property
    def connections(self) -> int:
        return len(self._sides) // 2

    def cut(self) -> None:
        """Break all connections now; what is held, or not yet forwarded, is lost."""
        self._drop_held()
        for side in self._sides:
            side.writer.transport.abort()

    def cut_after(
        self, pattern: bytes, direction: Direction, *, forward: bool = True
    ) -> asyncio.Event:
        """Break all connections when `pattern` passes, once; the event is set when it has.

        With `forward` the chunk it is in is still delivered; without, neither the pattern nor
        what follows it is.
        """
        self._trigger = _Trigger(pattern, direction, forward, asyncio.Event())
        return self._trigger.fired

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Break new connections as soon as they are made, inside the block."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    def hold(self, *directions: Direction) -> None:
        """Keep back what is sent there, by default to the client, until `release` or `cut`."""
        self._holding |= set(directions or ("to_client",))

    def release(self) -> None:
        """Deliver what was kept back, and everything after it."""
        self._holding.clear()
        for writer, (direction, held) in self._held_for.items():
            if not writer.is_closing():
                writer.write(held)
                self.passed[direction] += len(held)
        self._drop_held()

    async def until_held(self, pattern: bytes) -> None:
        """Return when what is kept back contains `pattern`."""
        while pattern not in self._held:
            self._held_more.clear()
            await self._held_more.wait()

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_for.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(_Side(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: _Side) -> None:
        try:
            server = _Side(*await asyncio.open_connection("127.0.0.1", self._upstream_port))
        except OSError:
            client.writer.transport.abort()
            return
        self._sides |= {client, server}
        await asyncio.gather(
            self._pump(client, server, "to_server"), self._pump(server, client, "to_client")
        )
        self._sides -= {client, server}
        client.writer.close()
        server.writer.close()

    async def _pump(self, source: _Side, target: _Side, direction: Direction) -> None:
        recent = b""
        with suppress(ConnectionError):
            while data := await source.reader.read(_CHUNK):
                end = self._end(recent, data, direction)
                self._forward(target.writer, data[:end], direction)
                if end is not None:
                    self._fire(target)
                recent = (recent + data)[-_RECENT:]
                await target.writer.drain()
        with suppress(OSError):  # the peer may have closed it at the same moment
            target.writer.write_eof()

    def _end(self, recent: bytes, data: bytes, direction: Direction) -> int | None:
        """How much of the data still passes; None where it does not end the connection."""
        trigger = self._trigger
        if trigger is None or trigger.direction != direction:
            return None
        is_new = max(0, len(recent) - len(trigger.pattern) + 1)  # not one that passed before
        at = (recent + data).find(trigger.pattern, is_new)
        if at < 0:
            return None
        return len(data) if trigger.forward else max(at - len(recent), 0)

    def _fire(self, target: _Side) -> None:
        assert self._trigger is not None
        self._trigger.fired.set()
        self._trigger = None
        target.writer.write_eof()
        self._sides.discard(target)  # ended, not aborted, so that what was forwarded arrives
        self.cut()

    def _forward(self, writer: asyncio.StreamWriter, data: bytes, direction: Direction) -> None:
        if writer.is_closing():
            return
        if direction in self._holding:
            self._held += data
            self._held_for.setdefault(writer, (direction, bytearray()))[1].extend(data)
            self._held_more.set()
            return
        self.passed[direction] += len(data)
        writer.write(data)
