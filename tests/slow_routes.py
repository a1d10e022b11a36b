"""The routes between the servers of a cluster, one direction of which a test can keep back."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

_CHUNK = 64 * 1024
_NAME = re.compile(rb'"server_name":"(\w+)"')

_Link = tuple[str | None, str | None]


class SlowRoutes:
    """Stands before the cluster port of each server, which must advertise the one here instead.

    `upstream` has the servers' cluster ports by their names, `ports` those that stand for them.
    """

    def __init__(self, upstream: dict[str, int]) -> None:
        self.ports: dict[str, int] = {}
        self._upstream = upstream
        self._flowing: defaultdict[_Link, asyncio.Event] = defaultdict(_set_event)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for name in self._upstream:
            server = await asyncio.start_server(partial(self._accept, name), "127.0.0.1", 0)
            self.ports[name] = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def config(self, name: str) -> str:
        """The cluster block of a server's configuration."""
        others = (port for other, port in self.ports.items() if other != name)
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in others)
        return (
            f'cluster {{ name: slow, listen: "127.0.0.1:{self._upstream[name]}", '
            f'advertise: "127.0.0.1:{self.ports[name]}", pool_size: -1, routes: [{routes}] }}'
        )

    @contextmanager
    def held(self, source: str, target: str) -> Iterator[None]:
        """Keep back what one server sends another, inside the block."""
        flowing = self._flowing[source, target]
        flowing.clear()
        try:
            yield
        finally:
            flowing.set()

    def _accept(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.create_task(self._serve(target, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers = [writer]
        try:
            upstream, to_upstream = await asyncio.open_connection(
                "127.0.0.1", self._upstream[target]
            )
            writers.append(to_upstream)
            link: list[str | None] = [None, target]
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, to_upstream, link))
                group.create_task(self._pump(upstream, writer, link, back=True))
        except* OSError:
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: list[str | None],
        *,
        back: bool = False,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if link[0] is None and not back and (found := _NAME.search(data)):
                link[0] = found[1].decode()
            source, target = reversed(link) if back else link
            await self._flowing[source, target].wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("the route has ended")


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
