"""The link between the two processes of a service: a socket pair, and what they say on it.

The second process sends `Ready` once, or `Failure`; then a `Report` for each request of the first.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import msgspec
from msgspec import Struct

from eventstore.service.health import HealthReport
from eventstore.service.metrics import Samples
from eventstore.service.micro import EndpointStats

VARIABLE = "_EVENTSTORE_READ_SIDE"
"""Has the descriptor of the second process's end, in its environment."""

_LENGTH_BYTES = 4


class Ready(Struct, frozen=True, tag=True):
    """The read side works: on this read model, answering these queries."""

    read_model: str
    queries: tuple[EndpointStats, ...]


class Failure(Struct, frozen=True, tag=True):
    """The read side ends with an error."""

    text: str
    retryable: bool
    code: str


class Report(Struct, frozen=True, tag=True):
    """The answer to a request, with its number: health, samples of metrics, queries answered."""

    number: int
    health: HealthReport
    metrics: Samples
    queries: tuple[EndpointStats, ...]


class Request(Struct, frozen=True, tag=True):
    """Asks for a report."""

    number: int


Message = Ready | Failure | Report | Request

_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode


class ProcessLink:
    """One end of the link; `connect` before anything else."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    async def connect(self) -> None:
        """Attach it to the running loop."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._end)

    def send(self, message: Message) -> None:
        """Send a message; it is lost if the other process has ended."""
        data = _encode(message)
        self._writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)

    async def receive(self) -> Message | None:
        """The next message; None if the other process has ended."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return _decode(data)

    async def close(self) -> None:
        """Send what is left, and close it."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


def inherited_link() -> ProcessLink | None:
    """The second process's end, if this is one; no process that it starts gets it."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    end = socket.socket(fileno=int(number))
    end.set_inheritable(False)
    return ProcessLink(end)
