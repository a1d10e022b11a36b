"""Settling: what was delivered and is not acknowledged yet, and what was, lest it comes again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.errors import ClientError
from eventstore.pull import Delivery

__all__ = ["Settling", "Taken"]

_REMEMBERED = 10_000

_ACK = b"+ACK"
_NAK = b"-NAK"
_IN_PROGRESS = b"+WPI"

_Key = tuple[int, int]


class Taken:
    """A message that was delivered and is to be settled; `attempts` counts those to handle it."""

    def __init__(self, message: Msg) -> None:
        self.message = message
        self.delivery = Delivery.of(message)
        self.reply = message.reply
        self.attempts = 0

    @property
    def key(self) -> _Key:
        """What it is known by; with the time, for a stream made anew counts from 1 again."""
        return self.delivery.sequence, self.delivery.time


class Settling:
    """The messages of one consumer that this process holds, and those it settled last.

    Where an acknowledgement gets lost, the message is delivered again, and is then acknowledged
    without being handled again as long as this process remembers it (10,000 messages).
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[_Key, Taken] = {}
        self._settled: OrderedDict[_Key, None] = OrderedDict()

    async def hold(self, taken: Taken) -> bool:
        """Hold a message; False where it came before, so that it must not be handled now."""
        held = self._held.get(taken.key)
        if held is not None:
            held.reply = taken.reply  # the time to settle it under the other had run out
            return False
        if taken.key in self._settled:
            await self._tell(taken.reply, _ACK)
            return False
        self._held[taken.key] = taken
        return True

    async def keep_holding(self, ack_wait: float) -> None:
        """Have the server wait for what is held, for ever; `ack_wait` is the consumer's seconds."""
        while True:
            await asyncio.sleep(ack_wait / 3)
            for taken in list(self._held.values()):
                await self._tell(taken.reply, _IN_PROGRESS)

    async def confirm(self, taken: Taken) -> None:
        """Return when the server has it as settled; raises `ClientError` where that is not sure."""
        await self._client.request(taken.reply, _ACK)
        self._remember(taken)

    async def done(self, taken: Taken) -> None:
        """It was handled, and is not to come again."""
        self._remember(taken)
        await self._release(taken, _ACK)

    async def give_back(self, taken: Taken, delay: float) -> None:
        """It was not handled, and is to come again, after `delay` seconds at the earliest."""
        await self._release(taken, b'-NAK {"delay": %d}' % int(delay * 1e9))

    async def give_back_all(self) -> None:
        """What is still held is to come again at once; the server may change its order."""
        for taken in list(self._held.values()):
            await self._release(taken, _NAK)

    def _remember(self, taken: Taken) -> None:
        self._settled[taken.key] = None
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)

    async def _release(self, taken: Taken, how: bytes) -> None:
        del self._held[taken.key]
        await self._tell(taken.reply, how)

    async def _tell(self, reply: str, how: bytes) -> None:
        with suppress(ClientError):  # where it gets lost, the message is delivered again
            await self._client.publish(reply, how)
