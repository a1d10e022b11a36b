"""A peer that breaks the protocol on purpose, which no real server does when it is told to.

It stands in for no server: whatever a real one can be made to do is tested with a real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

INFO = {"server_id": "broken", "version": "2.15.1", "headers": True, "max_payload": 1_048_576}


class BrokenPeer:
    """Sends `info` first (nothing, where it is None), and answers every PING.

    `received` is all it got. With `on_connect`, that is called with the writer in place of the
    answer to the PING that follows CONNECT.
    """

    def __init__(
        self,
        *,
        info: dict[str, Any] | None = INFO,
        on_connect: Callable[[asyncio.StreamWriter], None] | None = None,
    ) -> None:
        self.received = b""
        self._info = info
        self._on_connect = on_connect
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def send(self, data: bytes) -> None:
        for writer in self._writers:
            writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._info is not None:
            writer.write(b"INFO " + json.dumps(self._info).encode() + b"\r\n")
        try:
            while line := await reader.readline():
                self.received += line
                if line.startswith(b"CONNECT") and self._on_connect is not None:
                    self._on_connect(writer)
                elif line.startswith(b"PING") and self._on_connect is None:
                    writer.write(b"PONG\r\n")
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
