"""Acknowledgements: tracks in-flight deliveries, and recent acks, against double handling."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from eventstore.client.client import Client, Msg
from eventstore.errors import ClientError
from eventstore.jetstream.consumer import Delivery

_MAX_REMEMBERED = 10_000

_ACK = b"+ACK"
_NAK = b"-NAK"
_IN_PROGRESS = b"+WPI"

_Key = tuple[int, int]


class TrackedDelivery(Protocol):
    """A delivered message that is to be acknowledged."""

    @property
    def message(self) -> Msg:
        """The message as it was delivered."""

    @property
    def delivery(self) -> Delivery:
        """The server's metadata of the delivery."""


class DeliveredMessage:
    """A message with the metadata of its delivery; the content is not checked."""

    def __init__(self, message: Msg) -> None:
        self.message = message
        self.delivery = Delivery.of(message)


class Acknowledgements:
    """Tracks the messages of one consumer that are in flight in this process.

    A message that is redelivered while it is in flight must not be handled a second time. If an
    ack is lost, its message is redelivered too: with `once`, it is then acked without being
    handled, if it is among the last 10,000 that this process acked.
    """

    def __init__(self, client: Client, *, once: bool = True) -> None:
        self._client = client
        self._once = once
        self._in_flight: dict[_Key, str] = {}  # the ack subject of each
        self._acked: OrderedDict[_Key, None] = OrderedDict()

    async def track(self, each: TrackedDelivery) -> bool:
        """Track a message; False for a redelivery that must not be handled now."""
        key, reply = _key(each), each.message.reply
        if key in self._acked:
            await self._send(reply, _ACK)
            return False
        is_new = key not in self._in_flight
        self._in_flight[key] = reply  # the earlier delivery's ack wait has expired
        return is_new

    async def extend_ack_waits(
        self, ack_wait: float, waiting: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """Report messages as in progress that have been so for a third of the ack wait.

        `ack_wait` is the consumer's, in seconds; `waiting` returns the ack subjects of messages
        that are delivered, and not tracked yet. Runs until it is cancelled.
        """
        before: set[str] = set()
        while True:
            await asyncio.sleep(ack_wait / 3)
            now = {*self._in_flight.values(), *waiting()}
            for reply in now & before:
                await self._send(reply, _IN_PROGRESS)
            before = now

    async def confirm(self, each: TrackedDelivery) -> None:
        """Ack, and return when the server confirms it; raises `ClientError` if it does not."""
        reply = self._in_flight.get(_key(each), each.message.reply)
        await self._client.request(reply, _ACK)
        if self._once:
            self._remember(each)

    def ack(self, each: TrackedDelivery) -> Coroutine[Any, Any, None]:
        """Ack a message that was handled, so that it is not redelivered; is to be awaited."""
        if self._once:
            self._remember(each)
        return self._send(self._released(each), _ACK)

    def nak(self, each: TrackedDelivery, delay: float = 0.0) -> Coroutine[Any, Any, None]:
        """Have a message redelivered, after `delay` seconds at the earliest.

        It need not be tracked. Is to be awaited.
        """
        payload = b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else _NAK
        return self._send(self._released(each), payload)

    async def nak_all(self) -> None:
        """Have all in-flight messages redelivered; the server may change their order."""
        replies = list(self._in_flight.values())
        self._in_flight.clear()
        for reply in replies:
            await self._send(reply, _NAK)

    def forget(self) -> None:
        """Forget what was acked, so that it is handled again: the consumer was set back."""
        self._acked.clear()

    def _remember(self, each: TrackedDelivery) -> None:
        self._acked[_key(each)] = None
        if len(self._acked) > _MAX_REMEMBERED:
            self._acked.popitem(last=False)

    def _released(self, each: TrackedDelivery) -> str:
        """The ack subject of a message, which is no longer in flight."""
        return self._in_flight.pop(_key(each), each.message.reply)

    async def _send(self, reply: str, payload: bytes) -> None:
        try:  # noqa: SIM105  # entered for every command
            await self._client.publish(reply, payload)
        except ClientError:  # a lost ack leads to a redelivery
            pass


def ack_subjects(deliveries: Iterable[TrackedDelivery]) -> list[str]:
    """The subjects that deliveries are acknowledged on."""
    return [each.message.reply for each in deliveries]


def _key(each: TrackedDelivery) -> _Key:
    """Sequence and time: a stream that was deleted and recreated counts from 1 again."""
    delivery = each.delivery
    return delivery.sequence, delivery.time
