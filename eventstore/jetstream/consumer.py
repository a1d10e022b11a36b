"""Continuous pull from a JetStream consumer: raw pull requests, one inbox, a bounded buffer.

Faster than a fetch loop, because messages arrive while earlier ones are handled. Never more is
requested than fits the buffer. A consumer that is deleted, or that goes silent (no message and no
idle heartbeat), is reported as `PullLost`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from contextlib import AsyncExitStack, suppress

import msgspec

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client, Message, Msg
from eventstore.client.replies import new_token
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    JetStreamError,
    PermissionDenied,
    PullLost,
)
from eventstore.jetstream.vocabulary import ACK_PREFIX, Api, NatsHeader
from eventstore.messages.text import make_log_records_safe

_MAX_OPEN_REQUESTS = 16
_NUMBERS = r"(?:\.[0-9]{1,19}){5}"

_encode = msgspec.json.Encoder().encode
_logger = make_log_records_safe(logging.getLogger(__name__))


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """The metadata of a delivery, from the message's reply subject.

    `time` is when the stream stored the message, in nanoseconds of the Unix epoch; `pending` is how
    many messages the consumer has left after it; `delivered` counts its deliveries from 1.
    """

    delivered: int
    sequence: int
    consumer_sequence: int
    time: int
    pending: int

    @classmethod
    def of(cls, message: Msg) -> Delivery:
        """Parse both forms of ack subject, with 9 tokens and with 11 or more.

        All messages that a `PullConsumer` returns have one.
        """
        tokens = message.reply.split(".")
        start = 4 if len(tokens) == 9 else 6
        delivered, sequence, consumer_sequence, time, pending = tokens[start : start + 5]
        return cls(int(delivered), int(sequence), int(consumer_sequence), int(time), int(pending))


class PullConsumer(Resource):
    """A continuous pull from a consumer; an async context manager.

    At most `buffer` messages are requested or buffered at a time. Nothing is requested while
    `max_bytes` are buffered; each of the at most two open requests may add as many bytes again.
    `heartbeat` and `expires` are seconds.

    After a reconnect, it sends new requests; messages that were in flight are redelivered when the
    consumer's ack wait is over. Without acks (`acknowledged=False`) they never would be: a
    disconnect is then reported as `PullLost`, after the messages that are buffered.

    Only deliveries of the consumer are taken. Other messages that somebody sent to the inbox are
    dropped, and counted in `foreign`.
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
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._requested = 0
        self._requests = 0
        self._open: dict[str, int] = {}  # the number of each request by its token
        self.foreign = 0
        self._ended = 0  # requests up to this number are over; later statuses of them are ignored
        self._reconnected = False
        self._lost: PullLost | None = None
        self._wakeup = asyncio.Event()

    async def _enter(self, stack: AsyncExitStack) -> None:
        await self._listen()
        stack.push_async_callback(lambda: self._subscription.unsubscribe())
        stack.callback(self._client.on_reconnect(self._on_reconnect))
        stack.callback(self._client.on_disconnect(self._on_disconnect))

    async def take(self, max_messages: int) -> list[Message]:
        """Wait for at least one message, and return up to `max_messages` of the buffered ones.

        Raises `PullLost` after two heartbeats of silence while connected, `ConnectionLost` if the
        connection was closed for good.
        """
        while not self._messages:
            self._wakeup.clear()  # before the state is checked
            if self._client.is_closed:
                raise ConnectionLost("the connection is closed")
            if self._lost is not None:
                raise self._lost
            await self._request()
            await self._wait()
        count = min(max_messages, len(self._messages))
        taken = [self._messages.popleft() for _ in range(count)]
        self._bytes -= sum([len(message.data) for message in taken])
        try:
            await self._request()
        except ClientError as error:  # raised when the buffer is empty
            self._lost = PullLost(f"no more messages could be requested: {error}")
        return taken

    def waiting(self) -> list[str]:
        """The ack subjects of the messages in the buffer."""
        return [message.reply for message in self._messages]

    def drain(self) -> list[Message]:
        """Empty the buffer, and return what was in it."""
        left = list(self._messages)
        self._messages.clear()
        self._bytes = 0
        return left

    async def finish(self) -> list[Message]:
        """Stop deliveries, and return all messages that were delivered and not taken.

        What is requeued (nak) afterwards is not delivered to this pull. If the connection is lost,
        messages that were on their way are not returned.
        """
        with suppress(ClientError):
            await self._client.stop_deliveries(self._subscription)
        return self.drain()

    async def _listen(self) -> None:
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.listen(f"{self._inbox}.*", self._receive)

    async def _request(self) -> None:
        if not self._client.is_connected:
            return
        if self._reconnected:
            # The server may still have the old requests open; without their inbox they end.
            self._reconnected = False
            await self._subscription.unsubscribe()
            await self._listen()
            self._end_all()
        wanted = self._buffer - self._requested - len(self._messages)
        if self._lost or wanted * 2 < self._buffer or self._bytes >= self._max_bytes:
            return
        request = {
            "batch": wanted,
            "max_bytes": self._max_bytes,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(self._heartbeat * 1e9),
        }
        self._requested += wanted
        self._requests += 1
        token = new_token()
        self._open[token] = self._requests
        if len(self._open) > _MAX_OPEN_REQUESTS:
            del self._open[next(iter(self._open))]
        try:
            await self._client.publish(
                self._subject, _encode(request), reply=f"{self._inbox}.{token}"
            )
        except ConnectionLost:
            self._reconnected = True  # requested again after the reconnect

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(2 * self._heartbeat):
                await self._wakeup.wait()
        except TimeoutError:
            if self._client.is_connected:
                raise PullLost("the consumer has been silent for two heartbeats") from None

    def _receive(self, message: Message) -> None:
        # A delivery has the subject it is stored under; only a status has the inbox's.
        if message.subject.startswith(self._inbox):
            request = self._open.get(message.subject.rpartition(".")[2])
            headers = message.headers or {}
            if request is None or "Status" not in headers:
                return self._drop(message)
            self._status(headers, request)
        elif self._delivers(message.reply):
            self._requested -= 1
            self._bytes += len(message.data)
            self._messages.append(message)
            if len(self._messages) > 1:
                return None  # nobody waits while there are messages
        else:
            return self._drop(message)
        return self._wakeup.set()

    def _drop(self, message: Message) -> None:
        self.foreign += 1
        if self.foreign == 1:
            _logger.warning(
                "%s: dropped a message to its inbox that it has not delivered: %.100r",
                *(self._subject, message.subject),
            )

    def _status(self, headers: dict[str, str], request: int) -> None:
        status = headers["Status"]
        text = headers.get("Description", "")
        if status == "100" or request <= self._ended:
            return
        if status in ("400", "503") or "Consumer" in text or text.startswith("Exceeded"):
            reason = "no responders" if status == "503" else text
            self._lost = PullLost(f"the consumer is lost: {reason}")
            return
        # The request has ended (expired, or full in bytes): its undelivered rest may be requested
        # again. A change of leader ends all requests, and gives no number.
        undelivered = decimal(headers.get(NatsHeader.PENDING_MESSAGES))
        if undelivered is None:
            self._end_all()
        else:
            self._requested -= min(undelivered, self._requested)

    def _end_all(self) -> None:
        self._requested = 0
        self._ended = self._requests

    def _on_disconnect(self) -> None:
        if not self._acknowledged:
            self._lost = PullLost("the connection broke, and messages in flight were lost")
            self._lost.is_reported = True
        self._wakeup.set()

    def _on_reconnect(self) -> None:
        self._reconnected = True
        self._wakeup.set()


def is_transient(error: ClientError) -> bool:
    """Whether a pull that failed with this error may succeed later without any change."""
    if isinstance(error, JetStreamError):
        return error.status >= 500
    return not isinstance(error, PermissionDenied)


def _acknowledgement(stream: str, consumer: str) -> re.Pattern[str]:
    """Matches the ack subjects of a consumer's deliveries, with or without domain and account."""
    own = rf"{re.escape(stream)}\.{re.escape(consumer)}"
    either = rf"{own}{_NUMBERS}|[^.\s*>]+\.[^.\s*>]+\.{own}{_NUMBERS}(?:\.[^.\s*>]+)*"
    return re.compile(rf"{re.escape(ACK_PREFIX)}\.(?:{either})")
