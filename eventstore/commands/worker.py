"""The command worker: takes commands off their stream and carries them out, durably.

Commands on one aggregate are carried out one after another (a lane for each aggregate under way),
many aggregates at once. A command is acknowledged last: after its events stand and its outcome
is kept and sent. So a crash anywhere leads to a redelivery, and a redelivery changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from contextlib import nullcontext

from eventstore.client.client import Client, Msg
from eventstore.commands.decoding import DecodedCommand, ReceivedCommand
from eventstore.commands.handler import CommandHandler
from eventstore.commands.outcome_log import about
from eventstore.commands.parking import park
from eventstore.commands.senders import Senders
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.failures import only_own_cancellation, ungrouped
from eventstore.concurrency.keyed import KeyedLocks, KeyedQueue
from eventstore.errors import (
    ClientError,
    CommandIdReused,
    EventStoreError,
    HandlerFailed,
    MasterKeyError,
    TopologyError,
)
from eventstore.jetstream.acks import Acknowledgements
from eventstore.jetstream.consumer import PullConsumer, may_pass
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.topology import ConsumerSpec, declare_consumer
from eventstore.messages.codec import Codec
from eventstore.messages.outcome import Outcome
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.text import make_log_records_safe

__all__ = ["CommandWorker", "worker_consumer"]

_CONSUMER = "worker"
_OUTCOME = "the outcome of a command"
_MAX_ACK_PENDING = 10_000
_HELD_FOR_EACH_UNDER_WAY = 4
_REDELIVERY = Backoff(0.25, 30.0, jitter=0)

_logger = make_log_records_safe(logging.getLogger(__name__))


def worker_consumer(codec: Codec, *, ack_wait: float = 30.0) -> ConsumerSpec:
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
            "max_ack_pending": _MAX_ACK_PENDING,
        },
    )


class CommandWorker:
    """Takes commands and carries them out until told to stop.

    `in_flight` bounds the commands under way at a time; four times as many may be held, so that
    many waiting for one aggregate do not hold up the others. What a worker that dies has held is
    delivered again after `ack_wait` seconds; all workers of a domain have the same.

    A command that failed comes again after a while that doubles from 0.25 to 30 seconds; those
    behind it on the same aggregate do not wait for it. At its delivery number `max_deliveries` it
    is parked (20: after six and a half minutes), and at number `max_failures` where what failed is
    an error nobody foresaw, as in a decider. Deliveries that ended with the worker count as well.

    `identify_senders` is for where all commands come from other accounts: see
    `eventstore.commands.senders`.

    Any number of workers can share a domain. `ready` is set when commands are first taken;
    `handled` counts those that have been answered and acknowledged, `returned` those that were
    taken and given back before they had begun.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        handler: CommandHandler,
        *,
        in_flight: int = 256,
        ack_wait: float = 30.0,
        max_deliveries: int = 20,
        max_failures: int = 5,
        identify_senders: bool = False,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._codec = codec
        self._handler = handler
        self._in_flight = in_flight
        self._ack_wait = ack_wait
        self._max_deliveries = max_deliveries
        self._max_failures = max_failures
        self._telemetry = telemetry
        self._stream = codec.subjects.command_stream
        self._consumer = worker_consumer(codec, ack_wait=ack_wait)
        self._outcomes = handler.outcomes
        # What is delivered again though it was settled is answered again: that may be lost too.
        self._settling = Acknowledgements(client, once=False)
        self._senders = Senders(client, codec.subjects) if identify_senders else None
        self._ids = KeyedLocks()  # for commands of one id on two aggregates
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.handled = 0
        self.returned = 0

    def stop(self) -> None:
        """Take no more commands; `run` then returns when those under way have ended.

        What has not begun goes back to the stream at once.
        """
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`; cancelled, it leaves what is under way to be redelivered.

        Lost connections and consumers are waited out. Raises `StreamDrift` or `StreamMissing`
        where the topology is not as declared, `PermissionDenied`, and `ClientError` where the
        connection was closed for good.
        """
        with ungrouped():
            async with self._senders or nullcontext(), asyncio.TaskGroup() as tasks:
                holding = tasks.create_task(self._settling.keep_holding(self._ack_wait))
                async with self._lanes() as lanes:
                    intake = tasks.create_task(self._intake(lanes))
                    try:
                        await self._stopping.wait()
                    finally:  # before the lanes close, which take nothing then
                        intake.cancel()
                        await asyncio.wait([intake])
                    await self._give_back(lanes.clear())
                holding.cancel()

    def _lanes(self) -> KeyedQueue[ReceivedCommand]:
        max_pending = _HELD_FOR_EACH_UNDER_WAY * self._in_flight
        return KeyedQueue(self._process, max_concurrency=self._in_flight, max_pending=max_pending)

    async def _intake(self, lanes: KeyedQueue[ReceivedCommand]) -> None:
        retry = Retry(self._client, "commands", passes=may_pass)

        async def work() -> None:
            taken: deque[ReceivedCommand] = deque()
            try:
                await declare_consumer(self._client, self._consumer)
                await self._take(taken, lanes, retry)
            finally:
                await self._give_back(taken)

        await retry.run(work)

    async def _take(
        self,
        taken: deque[ReceivedCommand],
        lanes: KeyedQueue[ReceivedCommand],
        retry: Retry,
    ) -> None:
        """Put commands into their lanes; those in `taken` have found no place there."""
        buffer = 2 * self._in_flight
        async with PullConsumer(self._client, self._stream, _CONSUMER, buffer=buffer) as pull:
            self.ready.set()
            try:
                while True:
                    taken.extend(map(self._read, await pull.take(self._in_flight)))
                    retry.recovered()
                    while taken:
                        if await self._settling.hold(taken[0]):
                            await lanes.put(taken[0].lane, taken[0])
                        taken.popleft()
            finally:
                taken.extend(map(self._read, await pull.finish()))

    def _read(self, message: Msg) -> ReceivedCommand:
        received = ReceivedCommand.of(self._codec, message)
        if self._senders is None:
            return received
        return received.sent_by(self._senders.sender_of(message))

    async def _process(self, received: ReceivedCommand) -> None:
        """Carry one command out; acknowledge it last, or give it back where that failed."""
        self._tell_begun(received)
        try:
            async with self._ids.held(received.command_id):
                outcome = await self._kept_outcome(received)
            if received.reply_to:
                await self._client.respond(received.reply_to, outcome.to_json(), what=_OUTCOME)
        except Exception as error:  # whatever it is, the command is not lost and others go on
            _logger.warning(
                "command %s goes back to the stream: %s",
                received.command_id,
                error,
                exc_info=None if isinstance(error, EventStoreError) else error,
            )
            await self._settling.give_back(received, _REDELIVERY.delay(received.delivery.delivered))
        else:
            await self._settling.done(received)
            self.handled += 1
            self._telemetry.count("commands", type=_type_of(received), outcome=outcome.status)

    async def _kept_outcome(self, received: ReceivedCommand) -> Outcome:
        """What became of it, kept under its id unless that is another command's."""
        outcome = await self._outcome_of(received)
        place = received.delivery.sequence
        # A domain may reject with the same code, which is an outcome like others.
        is_refused = outcome.status == "error" and outcome.code == CommandIdReused.code
        if not is_refused:
            outcome = await self._keep(received, outcome)
        if is_refused or received.is_bare:
            refusal = outcome if is_refused else None
            await self._outcomes.note_place(place, received.command_id, refusal)
        return outcome

    async def _keep(self, received: ReceivedCommand, outcome: Outcome) -> Outcome:
        told = about(self._codec, received)
        return await self._outcomes.put(outcome, place=received.delivery.sequence, about=told)

    def _tell_begun(self, received: ReceivedCommand) -> None:
        if received.delivery.delivered > 1:
            self._telemetry.count("retries", operation="command")
        waited = max(0.0, time.time() - received.delivery.time / 1e9)
        self._telemetry.observe("command_wait", waited, type=_type_of(received))

    async def _outcome_of(self, received: ReceivedCommand) -> Outcome:
        if isinstance(received.content, Exception):
            return await self._park(received, received.content)
        try:
            with only_own_cancellation():
                redelivered = received.delivery.delivered > 1
                return await self._handler.handle(received.content, redelivered=redelivered)
        except Exception as error:  # a decider at fault must not stop the commands of others
            if received.delivery.delivered < self._most_deliveries(error):
                raise
            if not isinstance(error, EventStoreError) or isinstance(error, HandlerFailed):
                command = f"command {received.command_id} on {received.message.subject}"
                _logger.exception("%s failed, and is parked", command)
            outcome = await self._park(received, error)
            if isinstance(error, CommandIdReused) and error.by_fact:  # no other command has one
                await self._keep(received, outcome)
            return outcome

    def _most_deliveries(self, error: Exception) -> int:
        """How often a command that fails like this is delivered before it is parked."""
        if not isinstance(error, EventStoreError) or isinstance(error, HandlerFailed):
            return self._max_failures
        return 1 if _is_at_fault(error) else self._max_deliveries

    async def _park(self, received: ReceivedCommand, error: Exception) -> Outcome:
        outcome = Outcome.error(
            error, received.command_id, received.aggregate, received.aggregate_id
        )
        await park(self._client, self._codec.domain, self._stream, received, outcome)
        self._telemetry.count("parked", code=outcome.code)
        return outcome

    async def _give_back(self, commands: Iterable[ReceivedCommand]) -> None:
        """Return commands to the stream, for any worker to take at once."""
        for each in commands:
            await self._settling.give_back(each)
            self.returned += 1


def _type_of(received: ReceivedCommand) -> str:
    """The command's type; what was not understood has none that could be trusted."""
    content = received.content
    return content.envelope.type if isinstance(content, DecodedCommand) else "unknown"


def _is_at_fault(error: EventStoreError) -> bool:
    """Whether it is the command that cannot be carried out, now or later."""
    others = ClientError | MasterKeyError | TopologyError
    return not (error.retryable or isinstance(error, others))
