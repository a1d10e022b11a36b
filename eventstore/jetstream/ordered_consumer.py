"""Ordered consumers: the messages of a stream in order, each once, without acknowledgements.

An ephemeral consumer delivers them. If it is lost, or a message in transit, it raises
`PullLost`; a new one after the last `position` continues without gaps and repetitions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from eventstore.client.client import Client, Message
from eventstore.errors import EventStoreError, PullLost
from eventstore.jetstream.api import create_consumer, delete_consumer
from eventstore.jetstream.consumer import Delivery, PullConsumer
from eventstore.messages.envelope import new_id


@asynccontextmanager
async def ordered_consumer(
    client: Client, stream: str, *, after: int, buffer: int, name: str, subject: str | None = None
) -> AsyncIterator[OrderedConsumer]:
    """A consumer of what follows a sequence; it is deleted at the end.

    It delivers all messages, or those of a `subject`, which may have wildcards. `buffer` is the
    maximum of messages delivered and not taken; `name` a prefix of the consumer's.
    Raises `StreamMissing` and `ClientError`.
    """
    name = f"{name}-{new_id()}"
    config: dict[str, object] = {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 30_000_000_000,
    }
    if subject is not None:
        config["filter_subject"] = subject
    created = await create_consumer(client, stream, name, config)
    try:
        async with PullConsumer(client, stream, name, buffer=buffer, acknowledged=False) as pull:
            yield OrderedConsumer(pull, stream, after, created.num_pending)
    finally:
        with suppress(EventStoreError):  # the server deletes it when it is unused
            await delete_consumer(client, stream, name, timeout=1.0)


class OrderedConsumer:
    """`position` is the sequence of the last message taken.

    `pending` is how many were left after it when it was delivered, by the count of the replica
    that the consumer is on: 0 is caught up with that, which may lag behind the stream's leader.
    """

    def __init__(self, pull: PullConsumer, stream: str, position: int, pending: int) -> None:
        self.position = position
        self.pending = pending
        self._pull = pull
        self._stream = stream
        self._delivered = 0
        self._lost: PullLost | None = None

    async def take(self, max_messages: int) -> list[tuple[Message, Delivery]]:
        """Wait for at least one message, and return up to `max_messages` of those that are there.

        Raises `PullLost` if a message was lost, after all before it have been returned, and what
        `PullConsumer.take` raises.
        """
        taken = [] if self._lost else self._in_order(await self._pull.take(max_messages))
        if self._lost is not None and not taken:
            raise self._lost
        return taken

    def _in_order(self, messages: list[Message]) -> list[tuple[Message, Delivery]]:
        taken = []
        for message in messages:
            delivery = Delivery.of(message)
            self._delivered += 1
            if delivery.consumer_sequence != self._delivered:
                self._lost = PullLost(
                    f"{self._stream}: what followed sequence {self.position} was lost in transit"
                )
                break
            self.position, self.pending = delivery.sequence, delivery.pending
            taken.append((message, delivery))
        return taken
