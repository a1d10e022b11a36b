"""A client of a few lines of protocol: it sends what no client library would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

INBOX = "_INBOX.fuzz"
_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'


class Answer(NamedTuple):
    """What came back: the header block, empty if there is none, and the payload."""

    headers: bytes
    payload: bytes

    @property
    def is_to_nobody(self) -> bool:
        """Whether the server says that nobody listens."""
        return self.headers.startswith(b"NATS/1.0 503")


_Take = Callable[[bytes, Answer], None]


class Wire:
    """Sends on one connection, which the server may end, and hears on another.

    `answers` are by the number of the inbox that they came to; `refused` counts the connections
    that the server has ended.
    """

    def __init__(self, port: int) -> None:
        self.answers: dict[int, Answer] = {}
        self.refused = 0
        self._port = port
        self._more = asyncio.Event()
        self._sender: _Connection | None = None

    async def __aenter__(self) -> Self:
        self._listener = await _Connection.open(self._port, self._take)
        self._listener.write(f"SUB {INBOX}.* 1\r\n".encode())
        await self._listener.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.close()
        if self._sender is not None:
            await self._sender.close()

    async def send(self, subject: bytes, headers: bytes | None, payload: bytes, reply: str) -> None:
        """Publish as it is; where the server has ended the connection, on a new one."""
        if headers is None:
            line = b"PUB %s %s %d\r\n" % (subject, reply.encode(), len(payload))
        else:
            size = len(headers)
            line = b"HPUB %s %s %d %d\r\n" % (subject, reply.encode(), size, size + len(payload))
        sender = await self._open_sender()
        sender.write(line + (headers or b"") + payload + b"\r\n")
        await sender.drain()

    async def flush(self) -> bool:
        """Whether the server has taken what was sent, and has not ended the connection."""
        sender = await self._open_sender()
        return await sender.flush()

    async def until_answered(self, numbers: set[int], seconds: float) -> set[int]:
        """Wait for answers; returns the numbers of those that have not come in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while numbers - self.answers.keys():
                    self._more.clear()
                    await self._more.wait()
        return numbers - self.answers.keys()

    async def _open_sender(self) -> _Connection:
        if self._sender is not None and self._sender.has_ended:
            await self._sender.close()
            self._sender = None
            self.refused += 1
        if self._sender is None:
            self._sender = await _Connection.open(self._port, self._take)
        return self._sender

    def _take(self, subject: bytes, answer: Answer) -> None:
        number = subject.rpartition(b".")[2]
        if number.isdigit():
            self.answers[int(number)] = answer
            self._more.set()


class _Connection:
    """A connection that reads what comes, until the server ends it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, take: _Take
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._take = take
        self._pongs = asyncio.Queue[None]()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, port: int, take: _Take) -> _Connection:
        streams = await asyncio.open_connection("127.0.0.1", port, limit=4 << 20)
        connection = cls(*streams, take)
        connection.write(_CONNECT)
        return connection

    @property
    def has_ended(self) -> bool:
        return self._reading.done()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        with suppress(ConnectionError):
            await self._writer.drain()

    async def flush(self) -> bool:
        self.write(b"PING\r\n")
        pong = asyncio.create_task(self._pongs.get())
        await asyncio.wait([pong, self._reading], return_when=asyncio.FIRST_COMPLETED)
        return pong.done() or not pong.cancel()

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await self._reader.readline():
                await self._line(line)

    async def _line(self, line: bytes) -> None:
        verb, *words = line.split()
        if verb == b"PING":
            self.write(b"PONG\r\n")
        elif verb == b"PONG":
            self._pongs.put_nowait(None)
        elif verb in (b"MSG", b"HMSG"):
            size = int(words[-2]) if verb == b"HMSG" else 0
            block = await self._reader.readexactly(int(words[-1]) + 2)
            self._take(words[0], Answer(block[:size], block[size:-2]))
