"""Leftovers: commands that were acknowledged and are in the queue all the same, found and settled.

A server whose disk was full has not stored that they were removed. After its restart they are in
the queue, and the consumer, which has their acknowledgements, delivers them to nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from eventstore.client.api_answers import ConsumerInfo
from eventstore.client.client import Client
from eventstore.commands.decoding import id_of_stored
from eventstore.commands.outcomes import Outcomes
from eventstore.concurrency.supervisor import FailureLog
from eventstore.errors import ClientError, ConnectionLost, StreamMissing
from eventstore.jetstream.api import delete_consumer, find_consumer, stream_info
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage, delete_message
from eventstore.jetstream.topology import ConsumerSpec
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import counted, make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))


class Leftovers:
    """Looks for them every `interval` seconds, and settles what it sees a second time.

    One whose outcome is stored is removed. If others are left when the consumer has nothing to
    deliver and nothing in flight, the consumer is deleted, for the workers to create it again: it
    then delivers them, and what was carried out before changes nothing.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        consumer: ConsumerSpec,
        outcomes: Outcomes,
        *,
        interval: float = 10.0,
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = consumer.stream
        self._consumer = consumer.name
        self._outcomes = outcomes
        self._interval = interval
        self._reader = DirectReader(client, consumer.stream)
        self._seen = 0

    async def run(self) -> None:
        """Look for them until cancelled."""
        failures = FailureLog("settling leftovers of the command queue", _logger)
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.settle()
            except ConnectionLost:
                continue
            except (ClientError, StreamMissing) as error:
                failures.note(error)
            else:
                failures.recovered()

    async def settle(self) -> None:
        """Look once; raises `ClientError` and `StreamMissing`."""
        info = await find_consumer(self._client, self._stream, self._consumer)
        first = 0 if info is None else await self._first(info.ack_floor.stream_seq)
        seen, self._seen = self._seen, first
        if info is None or not first or first != seen:  # it may be about to be removed
            return
        removed, left = await self._remove(first, info.ack_floor.stream_seq)
        if removed:
            _logger.warning(
                "%s, carried out before, had stayed in %s, and is removed now",
                counted(removed, "command"),
                self._stream,
            )
        if left and _is_idle(info):
            _logger.warning(
                "%s without an outcome had stayed in %s, and is delivered again",
                counted(left, "command"),
                self._stream,
            )
            await delete_consumer(self._client, self._stream, self._consumer)

    async def _first(self, floor: int) -> int:
        """The sequence of the first leftover, up to what is acknowledged; 0 without one."""
        state = (await stream_info(self._client, self._stream)).state
        return state.first_seq if state.messages and state.first_seq <= floor else 0

    async def _remove(self, first: int, floor: int) -> tuple[int, int]:
        """Remove those that have an outcome; returns how many these were, and how many others."""
        removed = left = 0
        async with aclosing(self._messages(first, floor)) as messages:
            async for message in messages:
                command_id = id_of_stored(message, self._subjects)
                if await self._outcomes.get(command_id, sequence=message.sequence) is None:
                    left += 1
                elif await delete_message(self._client, self._stream, message.sequence):
                    removed += 1
        return removed, left

    async def _messages(self, first: int, floor: int) -> AsyncGenerator[StoredMessage, None]:
        after = first - 1
        while after < floor:
            message = await self._reader.leader_next(">", after)
            if message is None or message.sequence > floor:
                return
            after = message.sequence
            yield message


def _is_idle(info: ConsumerInfo) -> bool:
    return not info.num_pending and not info.num_ack_pending
