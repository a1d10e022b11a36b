"""Settling: what was delivered and is not acknowledged yet, and what was, lest it comes again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import Protocol

from eventstore.client.client import Client, Msg
from eventstore.errors import ClientError
from eventstore.jetstream.consumer import Delivery

__all__ = ["Acknowledgements", "DeliveryTracker", "TrackedDelivery"]

_REMEMBERED = 10_000

_ACK = b"+ACK"
_NAK = b"-NAK"
_IN_PROGRESS = b"+WPI"

_Key = tuple[int, int]


class TrackedDelivery(Protocol):
    """A message that was delivered and is to be settled."""

    @property
    def message(self) -> Msg:
        """As it came."""

    @property
    def delivery(self) -> Delivery:
        """What the server says of it."""


class DeliveryTracker:
    """A message as it was taken, whatever is in it."""

    def __init__(self, message: Msg) -> None:
        self.message = message
        self.delivery = Delivery.of(message)


class Acknowledgements:
    """The messages of one consumer that this process holds, and those it settled last.

    What is delivered again while it is held must not be handled again. Where an acknowledgement
    gets lost, the message is delivered again too: with `once`, it is then acknowledged without
    being handled again, as long as this process remembers it (10,000 messages).
    """

    def __init__(self, client: Client, *, once: bool = True) -> None:
        self._client = client
        self._once = once
        self._held: dict[_Key, str] = {}  # where to settle each
        self._settled: OrderedDict[_Key, None] = OrderedDict()

    async def hold(self, each: TrackedDelivery) -> bool:
        """Hold a message; False where it came before, so that it must not be handled now."""
        key, reply = _key(each), each.message.reply
        if key in self._settled:
            await self._tell(reply, _ACK)
            return False
        is_new = key not in self._held
        self._held[key] = reply  # the time to settle it under another had run out
        return is_new

    async def keep_holding(self, ack_wait: float) -> None:
        """Have the server wait for what is held, for ever; `ack_wait` is the consumer's seconds."""
        while True:
            await asyncio.sleep(ack_wait / 3)
            for reply in list(self._held.values()):
                await self._tell(reply, _IN_PROGRESS)

    async def confirm(self, each: TrackedDelivery) -> None:
        """Return when the server has it as settled; raises `ClientError` where that is not sure."""
        reply = self._held.get(_key(each), each.message.reply)
        await self._client.request(reply, _ACK)
        self._remember(each)

    async def done(self, each: TrackedDelivery) -> None:
        """It was handled, and is not to come again."""
        self._remember(each)
        await self._release(each, _ACK)

    async def give_back(self, each: TrackedDelivery, delay: float = 0.0) -> None:
        """It was not handled, and is to come again, after `delay` seconds at the earliest.

        It need not be held.
        """
        await self._release(each, b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else _NAK)

    async def give_back_all(self) -> None:
        """What is still held is to come again at once; the server may change its order."""
        replies = list(self._held.values())
        self._held.clear()
        for reply in replies:
            await self._tell(reply, _NAK)

    def _remember(self, each: TrackedDelivery) -> None:
        if self._once:
            self._settled[_key(each)] = None
            if len(self._settled) > _REMEMBERED:
                self._settled.popitem(last=False)

    async def _release(self, each: TrackedDelivery, how: bytes) -> None:
        reply = self._held.pop(_key(each), each.message.reply)
        await self._tell(reply, how)

    async def _tell(self, reply: str, how: bytes) -> None:
        with suppress(ClientError):  # where it gets lost, the message is delivered again
            await self._client.publish(reply, how)


def _key(each: TrackedDelivery) -> _Key:
    """What it is known by; with the time, for a stream made anew counts from 1 again."""
    return each.delivery.sequence, each.delivery.time
