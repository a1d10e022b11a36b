"""Continuous pull from a JetStream consumer: raw pull requests, one inbox, a bounded buffer.

Faster than a fetch loop, because messages flow while the last ones are worked on, and bounded,
because never more is asked for than the buffer may hold. A consumer that goes silent (no message
and no idle heartbeat) or that is gone is reported as `PullLost`; pulls that a reconnect has
swallowed are asked for again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

import msgspec
from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.errors import ClientError, ConnectionLost

__all__ = ["Delivery", "Pull", "PullLost"]

_encode = msgspec.json.Encoder().encode


class PullLost(ClientError):
    """The consumer is gone, or has been silent for longer than its heartbeat allows."""

    code = "pull_lost"
    retryable = True


class Delivery(msgspec.Struct, frozen=True):
    """What the server says of a delivered message, in its reply subject.

    `time` is when the stream stored it, in nanoseconds of the Unix epoch; `pending` is how many
    are left for the consumer after it; `delivered` counts its deliveries from 1.
    """

    delivered: int
    sequence: int
    consumer_sequence: int
    time: int
    pending: int

    @classmethod
    def of(cls, message: Msg) -> Delivery:
        """Read both forms of acknowledgement subject, with 9 tokens and with 11 or more."""
        tokens = message.reply.split(".")
        start = 4 if len(tokens) == 9 else 6
        return cls(*map(int, tokens[start : start + 5]))


class Pull:
    """A running pull on a consumer; an async context manager.

    At most `buffer` messages are asked for and not yet taken; `max_bytes` bounds each of the at
    most three requests that are open at a time and must exceed the largest message.
    `heartbeat` and `expires` are seconds.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        consumer: str,
        *,
        buffer: int,
        max_bytes: int = 8 * 1024 * 1024,
        heartbeat: float = 5.0,
        expires: float = 30.0,
    ) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = client.new_inbox()
        self._buffer = buffer
        self._max_bytes = max_bytes
        self._heartbeat = heartbeat
        self._expires = expires
        self._messages: deque[Msg] = deque()
        self._asked = 0
        self._lost: PullLost | None = None
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Pull:
        self._subscription = await self._client.subscribe(self._inbox, self._receive)
        self._forget_reconnect = self._client.on_reconnect(self._reconnected)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget_reconnect()
        await self._subscription.unsubscribe()

    async def take(self, most: int) -> list[Msg]:
        """Wait for at least one message, and return up to `most` of those that are there.

        Raises `PullLost` after two heartbeats of silence while connected, `ConnectionLost` where
        the connection was closed for good.
        """
        while not self._messages:
            if self._client.is_closed:
                raise ConnectionLost("the connection is closed")
            await self._ask()
            await self._hear()
        count = min(most, len(self._messages))
        taken = [self._messages.popleft() for _ in range(count)]
        await self._ask()
        return taken

    def leftover(self) -> list[Msg]:
        """The messages that were delivered and not taken; they are no longer here afterwards."""
        left = list(self._messages)
        self._messages.clear()
        return left

    async def _ask(self) -> None:
        wanted = self._buffer - self._asked - len(self._messages)
        if wanted * 2 < self._buffer or not self._client.is_connected:
            return
        request = {
            "batch": wanted,
            "max_bytes": self._max_bytes,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(self._heartbeat * 1e9),
        }
        self._asked += wanted
        try:
            await self._client.publish(self._subject, _encode(request), reply=self._inbox)
        except ConnectionLost:
            self._asked = 0  # asked again after the reconnect

    async def _hear(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._heard.clear()
        try:
            async with asyncio.timeout(2 * self._heartbeat):
                await self._heard.wait()
        except TimeoutError:
            if self._client.is_connected:
                raise PullLost("the consumer has been silent for two heartbeats") from None

    async def _receive(self, message: Msg) -> None:
        headers = message.headers
        if headers is not None and "Status" in headers and message.subject == self._inbox:
            self._status(headers)
        else:
            self._asked -= 1
            self._messages.append(message)
        self._heard.set()

    def _status(self, headers: dict[str, str]) -> None:
        status = headers["Status"]
        text = headers.get("Description", "")
        if status == "100":
            return
        if status in ("400", "503") or "Consumer" in text:
            self._lost = PullLost(f"the consumer is gone: {text or 'no responders'}")
            return
        # The request has ended (expired, or full in bytes): what it still owed is free again.
        # A change of leader ends all requests and says no number.
        owed = headers.get("Nats-Pending-Messages")
        self._asked = 0 if owed is None else max(0, self._asked - int(owed))

    def _reconnected(self) -> None:
        self._asked = 0
        self._heard.set()
