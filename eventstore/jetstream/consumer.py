"""Continuous pull from a JetStream consumer: raw pull requests, one inbox, a bounded buffer.

Faster than a fetch loop, because messages flow while the last ones are worked on, and bounded,
because never more is asked for than the buffer may hold. A consumer that goes silent (no message
and no idle heartbeat) or that is gone is reported as `PullLost`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from contextlib import AsyncExitStack, suppress

import msgspec

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client, Msg
from eventstore.client.replies import new_token
from eventstore.concurrency.resource import Resource
from eventstore.errors import ClientError, ConnectionLost, JetStreamError, PermissionDenied
from eventstore.jetstream.vocabulary import ACK_PREFIX, Api, NatsHeader
from eventstore.text import make_log_records_safe

__all__ = ["Delivery", "PullConsumer", "PullLost", "may_pass"]

_MOST_OPEN = 16
_NUMBERS = r"(?:\.[0-9]{1,19}){5}"

_encode = msgspec.json.Encoder().encode
_logger = make_log_records_safe(logging.getLogger(__name__))


class PullLost(ClientError):
    """The consumer is gone, silent for longer than its heartbeat allows, or not to be resumed."""

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
        """Read both forms of acknowledgement subject, with 9 tokens and with 11 or more.

        A `PullConsumer` hands out only messages that have one.
        """
        tokens = message.reply.split(".")
        start = 4 if len(tokens) == 9 else 6
        return cls(*map(int, tokens[start : start + 5]))


class PullConsumer(Resource):
    """A running pull on a consumer; an async context manager.

    At most `buffer` messages are asked for and not yet taken, and nothing is asked for while
    `max_bytes` are held; each of the at most two requests that are open at a time brings as much
    again at the most. `heartbeat` and `expires` are seconds.

    After a reconnect it asks again, and what was under way comes once more when the consumer's
    time for acknowledgements is over. Where there are none (`acknowledged=False`), it would never
    come: a disconnect is then reported as `PullLost`, after all that had come before.

    Only what the consumer has delivered is taken; other messages, which somebody else has sent to
    the inbox, are counted in `strange` and dropped.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        consumer: str,
        *,
        buffer: int,
        acknowledged: bool = True,
        max_bytes: int = 8 * 1024 * 1024,
        heartbeat: float = 5.0,
        expires: float = 30.0,
    ) -> None:
        self._client = client
        self._subject = client.api_subject(Api.CONSUMER_NEXT.of(stream, consumer))
        self._delivers = _acknowledgement(stream, consumer).fullmatch
        self._buffer = buffer
        self._acknowledged = acknowledged
        # The server never delivers a message that is larger than the whole request.
        self._max_bytes = max(max_bytes, 2 * client.max_payload)
        self._heartbeat = heartbeat
        self._expires = expires
        self._messages: deque[Msg] = deque()
        self._bytes = 0
        self._asked = 0
        self._requests = 0
        self._open: dict[str, int] = {}  # the number of each request by its token
        self.strange = 0
        self._ended = 0  # requests up to this number are over, whatever is still heard of them
        self._reconnected = False
        self._lost: PullLost | None = None
        self._heard = asyncio.Event()

    async def _enter(self, stack: AsyncExitStack) -> None:
        await self._listen()
        stack.push_async_callback(lambda: self._subscription.unsubscribe())
        stack.callback(self._client.on_reconnect(self._on_reconnect))
        stack.callback(self._client.on_disconnect(self._on_disconnect))

    async def take(self, most: int) -> list[Msg]:
        """Wait for at least one message, and return up to `most` of those that are there.

        Raises `PullLost` after two heartbeats of silence while connected, `ConnectionLost` where
        the connection was closed for good.
        """
        while not self._messages:
            self._heard.clear()  # before all that it may tell of
            if self._client.is_closed:
                raise ConnectionLost("the connection is closed")
            if self._lost is not None:
                raise self._lost
            await self._ask()
            await self._hear()
        count = min(most, len(self._messages))
        taken = [self._messages.popleft() for _ in range(count)]
        self._bytes -= sum(len(message.data) for message in taken)
        try:
            await self._ask()
        except ClientError as error:  # told when all that is here has been taken
            self._lost = PullLost(f"no more could be asked for: {error}")
        return taken

    def leftover(self) -> list[Msg]:
        """The messages that were delivered and not taken; they are no longer here afterwards."""
        left = list(self._messages)
        self._messages.clear()
        self._bytes = 0
        return left

    async def finish(self) -> list[Msg]:
        """Have the server deliver no more; all that was delivered and not taken.

        What is given back to the stream afterwards does not come here again. Where the connection
        is lost, what was on its way is not among it.
        """
        with suppress(ClientError):
            await self._client.silence(self._subscription)
        return self.leftover()

    async def _listen(self) -> None:
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.listen(f"{self._inbox}.*", self._receive)

    async def _ask(self) -> None:
        if not self._client.is_connected:
            return
        if self._reconnected:
            await self._begin_anew()
        wanted = self._buffer - self._asked - len(self._messages)
        if self._lost or wanted * 2 < self._buffer or self._bytes >= self._max_bytes:
            return
        request = {
            "batch": wanted,
            "max_bytes": self._max_bytes,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(self._heartbeat * 1e9),
        }
        self._asked += wanted
        self._requests += 1
        reply = f"{self._inbox}.{self._new_token()}"
        try:
            await self._client.publish(self._subject, _encode(request), reply=reply)
        except ConnectionLost:
            self._reconnected = True  # soon, and then it is asked again

    async def _begin_anew(self) -> None:
        # The server may still hold requests from before; without their inbox they end.
        self._reconnected = False
        await self._subscription.unsubscribe()
        await self._listen()
        self._end_all()

    async def _hear(self) -> None:
        try:
            async with asyncio.timeout(2 * self._heartbeat):
                await self._heard.wait()
        except TimeoutError:
            if self._client.is_connected:
                raise PullLost("the consumer has been silent for two heartbeats") from None

    def _new_token(self) -> str:
        token = new_token()
        self._open[token] = self._requests
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return token

    def _receive(self, message: Msg) -> None:
        # What is delivered has the subject that it is stored under; the inbox's own is a status.
        if message.subject.startswith(self._inbox):
            request = self._open.get(message.subject.rpartition(".")[2])
            headers = message.headers or {}
            if request is None or "Status" not in headers:
                return self._drop(message)
            self._status(headers, request)
        elif self._delivers(message.reply):
            self._asked -= 1
            self._bytes += len(message.data)
            self._messages.append(message)
        else:
            return self._drop(message)
        return self._heard.set()

    def _drop(self, message: Msg) -> None:
        self.strange += 1
        if self.strange == 1:
            _logger.warning(
                "%s: a message that it has not delivered came to its inbox, and is dropped: %.100r",
                *(self._subject, message.subject),
            )

    def _status(self, headers: dict[str, str], request: int) -> None:
        status = headers["Status"]
        text = headers.get("Description", "")
        if status == "100" or request <= self._ended:
            return
        if status in ("400", "503") or "Consumer" in text or text.startswith("Exceeded"):
            reason = "nobody serves it" if status == "503" else text
            self._lost = PullLost(f"the consumer is gone: {reason}")
            return
        # The request has ended (expired, or full in bytes): what it still owed is free again.
        # A change of leader ends all requests and says no number.
        owed = decimal(headers.get(NatsHeader.PENDING_MESSAGES))
        if owed is None:
            self._end_all()
        else:
            self._asked -= min(owed, self._asked)

    def _end_all(self) -> None:
        self._asked = 0
        self._ended = self._requests

    def _on_disconnect(self) -> None:
        if not self._acknowledged:
            self._lost = PullLost("the connection broke, and with it what was under way")
        self._heard.set()

    def _on_reconnect(self) -> None:
        self._reconnected = True
        self._heard.set()


def may_pass(error: ClientError) -> bool:
    """Whether a pull that ended with this may succeed later without anything being changed."""
    if isinstance(error, JetStreamError):
        return error.status >= 500
    return not isinstance(error, PermissionDenied)


def _acknowledgement(stream: str, consumer: str) -> re.Pattern[str]:
    """The reply subjects of what the consumer delivers, with the domain and account, or without."""
    own = rf"{re.escape(stream)}\.{re.escape(consumer)}"
    either = rf"{own}{_NUMBERS}|[^.\s*>]+\.[^.\s*>]+\.{own}{_NUMBERS}(?:\.[^.\s*>]+)*"
    return re.compile(rf"{re.escape(ACK_PREFIX)}\.(?:{either})")
