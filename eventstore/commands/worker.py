"""The command worker: takes commands off their stream and carries them out, durably.

Commands on one aggregate are carried out one after another (a lane for each aggregate under way),
many aggregates at once. A command is acknowledged last: after its events stand and its outcome
is kept and sent. So a crash anywhere leads to a redelivery, and a redelivery changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress

from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.codec import Codec
from eventstore.commands.handler import CommandHandler
from eventstore.commands.intake import accept, command_id_of, reply_to_of
from eventstore.commands.outcome import Outcome, Outcomes
from eventstore.commands.parking import park
from eventstore.envelope import Header
from eventstore.errors import ClientError, EventStoreError
from eventstore.pull import Delivery, Pull, PullLost
from eventstore.streams import ConsumerSpec, declare_consumer

__all__ = ["CommandWorker", "worker_consumer"]

_CONSUMER = "worker"
_RETRY_SECONDS = 1.0
_FIRST_REDELIVERY = 0.25
_LONGEST_REDELIVERY = 30.0

_logger = logging.getLogger("eventstore")


def worker_consumer(codec: Codec, *, ack_wait: float = 30.0, in_flight: int = 256) -> ConsumerSpec:
    """The durable consumer that all command workers of a domain share."""
    subjects = codec.subjects
    return ConsumerSpec(
        subjects.command_stream,
        _CONSUMER,
        {
            "durable_name": _CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait * 1e9),
            "filter_subject": subjects.filter("cmd"),
            "max_deliver": -1,
            "max_ack_pending": 20 * in_flight,
        },
    )


class CommandWorker:
    """Takes commands and carries them out until told to stop.

    `in_flight` bounds the commands under way at a time, and with them the memory. Any number of
    workers can share a domain. Stopping lets what is under way end; what has not begun goes back
    to the stream at once.
    """

    def __init__(
        self, client: Client, codec: Codec, handler: CommandHandler, *, in_flight: int = 256
    ) -> None:
        self._client = client
        self._codec = codec
        self._handler = handler
        self._in_flight = in_flight
        self._stream = codec.subjects.command_stream
        self._consumer = worker_consumer(codec, in_flight=in_flight)
        self._outcomes = Outcomes(client, codec.subjects)
        self._lanes: dict[tuple[str, str], deque[tuple[Msg, Delivery]]] = {}
        self._free = asyncio.Semaphore(in_flight)
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.handled = 0

    def stop(self) -> None:
        """Take no more commands; `run` then returns when those under way have ended."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`; cancelled, it leaves what is under way to be redelivered.

        Lost connections and consumers are waited out. Raises `StreamDrift` or `StreamMissing`
        where the topology is not as declared.
        """
        await declare_consumer(self._client, self._consumer)
        async with asyncio.TaskGroup() as lanes:
            intake = lanes.create_task(self._intake(lanes))
            await self._stopping.wait()
            intake.cancel()

    async def _intake(self, lanes: asyncio.TaskGroup) -> None:
        while True:
            try:
                async with Pull(
                    self._client, self._stream, _CONSUMER, buffer=2 * self._in_flight
                ) as pull:
                    self.ready.set()
                    await self._take_from(pull, lanes)
            except PullLost as lost:
                _logger.warning("commands: %s; trying again", lost)
            except ClientError as error:
                if self._client.is_closed:
                    raise
                _logger.warning("commands: %s; trying again", error)
            await asyncio.sleep(_RETRY_SECONDS)
            with suppress(ClientError):
                await declare_consumer(self._client, self._consumer)

    async def _take_from(self, pull: Pull, lanes: asyncio.TaskGroup) -> None:
        taken: deque[Msg] = deque()
        try:
            while True:
                taken.extend(await pull.take(self._in_flight))
                while taken:
                    await self._free.acquire()
                    self._dispatch(taken.popleft(), lanes)
        finally:
            for message in (*taken, *pull.leftover()):
                await self._settle(message, b"-NAK")

    def _dispatch(self, message: Msg, lanes: asyncio.TaskGroup) -> None:
        """Put a command in its aggregate's lane, and open the lane where there is none."""
        delivery = Delivery.of(message)
        key = _lane_of(message, delivery)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append((message, delivery))
            return
        self._lanes[key] = deque([(message, delivery)])
        lanes.create_task(self._run_lane(key))

    async def _run_lane(self, key: tuple[str, str]) -> None:
        lane = self._lanes[key]
        try:
            while lane:
                message, delivery = lane.popleft()
                try:
                    await self._process(message, delivery)
                finally:
                    self._free.release()
        finally:
            del self._lanes[key]

    async def _process(self, message: Msg, delivery: Delivery) -> None:
        """Carry one command out; acknowledge it last, or give it back where that failed."""
        command_id = command_id_of(message, delivery, self._stream)
        try:
            outcome = await self._outcome_of(message, delivery, command_id)
            await self._outcomes.put(outcome)
            await self._answer(message, outcome)
        except EventStoreError as error:
            _logger.warning("command %s goes back to the stream: %s", command_id, error)
            await self._settle(message, _nak(delivery))
        else:
            await self._settle(message, b"+ACK")

    async def _outcome_of(self, message: Msg, delivery: Delivery, command_id: str) -> Outcome:
        try:
            accepted = accept(self._codec, message, delivery, command_id)
            return await self._handler.handle(accepted)
        except EventStoreError as error:
            if error.retryable:
                raise
            return await self._park(message, delivery, command_id, error)
        except Exception as error:  # a decider at fault must not stop the commands of others
            _logger.exception("command %s on %s failed", command_id, message.subject)
            return await self._park(message, delivery, command_id, error)

    async def _park(
        self, message: Msg, delivery: Delivery, command_id: str, error: Exception
    ) -> Outcome:
        await park(self._client, self._codec.domain, self._stream, message, delivery, error)
        aggregate = message.subject.split(".")[2]
        aggregate_id = (message.headers or {}).get(Header.AGGREGATE_ID)
        return Outcome.error(error, command_id, aggregate, aggregate_id)

    async def _answer(self, message: Msg, outcome: Outcome) -> None:
        inbox = reply_to_of(message)
        if inbox is not None:
            await self._client.publish(inbox, outcome.to_json())
        self.handled += 1

    async def _settle(self, message: Msg, how: bytes) -> None:
        # Where this gets lost, the command is redelivered, which changes nothing.
        with suppress(ClientError):
            await self._client.publish(message.reply, how)


def _lane_of(message: Msg, delivery: Delivery) -> tuple[str, str]:
    headers = message.headers or {}
    own = headers.get(Header.AGGREGATE_ID) or headers.get(Header.EVENT_ID)
    return message.subject.split(".")[2], own or str(delivery.sequence)


def _nak(delivery: Delivery) -> bytes:
    doublings = min(delivery.delivered - 1, 16)
    delay = min(_FIRST_REDELIVERY * 2**doublings, _LONGEST_REDELIVERY)
    return b'-NAK {"delay": %d}' % int(delay * 1e9)
