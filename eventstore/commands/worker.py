"""The command worker: takes commands off their stream and carries them out, durably.

Commands on one aggregate are carried out sequentially, those on different aggregates concurrently,
in batches of what has come: what they wait for is requested for all at once. A command that needs
more, a load say, leaves its batch and goes on by itself (`eventstore.concurrency.batching`).
A command is acknowledged last: after its events are recorded and its outcome is stored and sent. So
a crash anywhere leads to a redelivery, and a redelivery changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from eventstore.client.api_answers import ConsumerInfo
from eventstore.client.client import Client, Message
from eventstore.commands.consumer import ACK_WAIT, CONSUMER, worker_consumer
from eventstore.commands.decoding import DecodedCommand, ReceivedCommand
from eventstore.commands.failures import Failures
from eventstore.commands.handler import CommandHandler
from eventstore.commands.leftovers import Leftovers
from eventstore.commands.outcome_log import about
from eventstore.commands.releases import OtherReleases
from eventstore.commands.senders import Senders
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.batching import own_task
from eventstore.concurrency.failures import only_own_cancellation, ungrouped
from eventstore.concurrency.keyed import KeyedLocks
from eventstore.concurrency.keyed_batches import KeyedBatches
from eventstore.errors import (
    ClientError,
    CommandIdReused,
    EventStoreError,
    HandlerFailed,
    LogDiverged,
    MasterKeyError,
    TopologyError,
    UnknownType,
)
from eventstore.jetstream.acks import Acknowledgements, ack_subjects
from eventstore.jetstream.consumer import PullConsumer, is_transient
from eventstore.jetstream.ownership import Owner
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.topology import declare_consumer
from eventstore.messages.codec import Codec
from eventstore.messages.headers import AUTHENTICATED_AS
from eventstore.messages.outcome import Outcome
from eventstore.messages.text import make_log_records_safe
from eventstore.parking.park import park
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.timers.due import DueTimers, due_time

_OUTCOME = "the outcome of a command"
_PENDING_FACTOR = 4
_REDELIVERY = Backoff(0.25, 30.0, jitter=0)

_logger = make_log_records_safe(logging.getLogger(__name__))


Rejections = Callable[[DecodedCommand, Outcome], Awaitable[None]]
"""What is called for a rejected command that a process has sent."""


class CommandWorker:
    """Takes commands and carries them out until it is stopped.

    `in_flight` bounds the commands that are carried out concurrently; four times as many may be
    pending, so that many commands for one aggregate do not block the others. The pending commands
    of a worker that dies are redelivered after `ack_wait` seconds. That is the same for all workers
    of a domain, and the one that starts first decides: a longer one is reported, and with a shorter
    one, a command that takes longer may be carried out twice, to the same outcome.

    A failed command is redelivered after a delay that doubles from 0.25 to 30 seconds; later
    commands on the same aggregate do not wait for it. At its delivery number `max_deliveries` it
    is parked (20: after six and a half minutes), and at number `max_failures` if it fails with an
    unexpected error, as of a decider. Deliveries that ended with the worker count as well; of an
    aggregate whose commands an older release has left, only those to this worker that failed.

    A command of an aggregate that this release does not know, but another one does according to the
    stream's metadata, is left in the queue with those same delays, however often it is delivered.
    While 10,000 are left, and no other release runs, the queue takes no others: that is logged, and
    health reports it.

    `rejections` is called when the outcome of a command is stored that a process has sent, and that
    is rejected, before it is acknowledged: at least once.

    `identify_senders` is for domains whose commands all come from other accounts: see
    `eventstore.commands.senders`.

    Any number of workers can share a domain. `ready` is set when commands are first taken;
    `handled` counts those that have been answered and acknowledged, `returned` those that were
    taken and requeued before they had begun.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        handler: CommandHandler,
        *,
        in_flight: int = 256,
        ack_wait: float = ACK_WAIT,
        max_deliveries: int = 20,
        max_failures: int = 5,
        identify_senders: bool = False,
        rejections: Rejections | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        client.protect(codec.domain)
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
        self._leftovers = Leftovers(client, codec.subjects, self._consumer, self._outcomes)
        self._rejections = rejections
        self._others = OtherReleases(client, self._consumer, Owner.of(handler.domain))
        self._failures = Failures()
        # A command redelivered after its ack is answered again: the first answer may be lost.
        self._acks = Acknowledgements(client, once=False)
        self._senders = Senders(client, codec.subjects) if identify_senders else None
        self._due = DueTimers(client, codec.subjects)
        self._ids = KeyedLocks()  # for commands of one id on two aggregates
        self._waiting: Callable[[], list[str]] = list
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.handled = 0
        self.returned = 0

    @property
    def left(self) -> Mapping[str, int]:
        """How often commands were left to other releases, by aggregate."""
        return self._others.left

    def stop(self) -> None:
        """Take no more commands, and requeue those that have not begun; the others end."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`; if cancelled, the commands in flight will be redelivered.

        Waits while the connection or the consumer is lost. Raises `ForeignStream` for the queue of
        another application, `StreamDrift` or `StreamMissing` if the topology is not as declared,
        `PermissionDenied`, and `ClientError` if the connection was closed for good.
        """
        with ungrouped():
            async with self._senders or nullcontext(), asyncio.TaskGroup() as tasks:
                extending = self._acks.extend_ack_waits(self._ack_wait, self._untracked)
                running = [tasks.create_task(each) for each in (extending, self._leftovers.run())]
                async with KeyedBatches(
                    self._process,
                    max_concurrency=self._in_flight,
                    max_pending=_PENDING_FACTOR * self._in_flight,
                ) as queue:
                    intake = tasks.create_task(self._intake(queue))
                    try:
                        await self._stopping.wait()
                    finally:  # before the queue closes, which then takes nothing
                        intake.cancel()
                        await asyncio.wait([intake])
                    await self._requeue(queue.clear())
                for each in running:
                    each.cancel()

    async def _intake(self, queue: KeyedBatches[ReceivedCommand]) -> None:
        retry = Retry(self._client, "commands", passes=is_transient)

        async def work() -> None:
            taken: deque[ReceivedCommand] = deque()
            try:
                await self._others.claim()
                self._compare(await declare_consumer(self._client, self._consumer))
                await self._take(taken, queue, retry)
            finally:
                await self._requeue(taken)

        await retry.run(work)

    def _compare(self, found: ConsumerInfo) -> None:
        """Report an ack wait that is longer than this worker's."""
        seconds = found.config["ack_wait"] / 1e9
        if seconds > self._ack_wait:
            _logger.warning(
                "commands of a worker that dies are redelivered after %g s, as an earlier release "
                "has set it; once none of its processes runs any more: "
                "nats consumer edit %s %s --wait=%gs",
                *(seconds, self._stream, found.name, self._ack_wait),
            )

    async def _take(
        self,
        taken: deque[ReceivedCommand],
        queue: KeyedBatches[ReceivedCommand],
        retry: Retry,
    ) -> None:
        """Put commands into the queue; those left in `taken` are not in it."""
        buffer = 2 * self._in_flight
        async with PullConsumer(self._client, self._stream, CONSUMER, buffer=buffer) as pull:
            self._waiting = lambda: [*ack_subjects(taken), *pull.waiting()]
            self.ready.set()
            try:
                while True:
                    taken.extend(map(self._read, await pull.take(self._in_flight)))
                    retry.recovered()
                    while taken:
                        if await self._acks.track(taken[0]):
                            await queue.put(taken[0].queue_key, taken[0])
                        taken.popleft()
            finally:
                self._waiting = list
                taken.extend(map(self._read, await pull.finish()))

    def _untracked(self) -> list[str]:
        return self._waiting()

    def _read(self, message: Message) -> ReceivedCommand:
        received = ReceivedCommand.of(self._codec, message)
        if self._senders is None:
            return received
        return received.sent_by(self._senders.sender_of(message))

    async def _process(self, received: ReceivedCommand) -> None:
        """Carry one command out; acknowledge it last, or requeue it if it failed."""
        if received.delivery.delivered > 1:
            self._telemetry.count("retries", operation="command")
        name = _type_of(received)
        waited = max(0.0, time.time() - received.delivery.time / 1e9)
        self._telemetry.observe("command_wait", waited, type=name)
        if is_from_timer := received.is_from_timer:
            self._observe_lateness(received, name)
        try:
            if isinstance(received.content, UnknownType) and await self._others.take(received):
                await self._acks.nak(received, _REDELIVERY.delay(received.delivery.delivered))
                return
            if is_from_timer and self._senders is not None:
                received = await self._sent_by_owner(received)
            outcome = await self._stored_outcome(received)
            if outcome.status == "rejected":
                await self._report_rejection(received, outcome)
            if reply_to := received.reply_to:
                await self._client.respond(reply_to, outcome.to_json(), what=_OUTCOME)
            if is_from_timer:
                await self._remove_timer(received)
        except Exception as error:  # the command is not lost, and others go on
            _logger.warning(
                "%s failed at attempt %d, and is requeued: %s: %s",
                _described(received),
                received.delivery.delivered,
                type(error).__name__,
                error,
                exc_info=None if isinstance(error, EventStoreError) else error,
            )
            await self._acks.nak(received, _REDELIVERY.delay(received.delivery.delivered))
        else:
            self._failures.forget(received.delivery)
            await self._acks.ack(received)
            self.handled += 1
            self._telemetry.count("commands", type=name, outcome=outcome.status)

    async def _sent_by_owner(self, received: ReceivedCommand) -> ReceivedCommand:
        """A timer's command with the sender that set the timer, if that is known."""
        await own_task()
        timer = await self._due.find(received.message)
        return received.sent_by(None if timer is None else timer.headers.get(AUTHENTICATED_AS))

    async def _remove_timer(self, received: ReceivedCommand) -> None:
        """Remove the due timer of a command that is carried out."""
        await own_task()  # commands that were sent directly do not wait for it
        timer = await self._due.find(received.message)
        if timer is not None:
            await self._due.remove(timer)

    def _observe_lateness(self, received: ReceivedCommand, name: str) -> None:
        due = due_time(received.headers)
        if due is not None and received.delivery.delivered == 1:
            late = max(0.0, received.delivery.time / 1e9 - due.timestamp())
            self._telemetry.observe("timer_late", late, type=name)

    async def _stored_outcome(self, received: ReceivedCommand) -> Outcome:
        """The command's outcome, stored under its id unless that is another command's."""
        command_id = received.command_id
        if not self._ids.take(command_id):
            await self._ids.turn(command_id)
        try:
            outcome = await self._outcome_of(received)
            # A domain may reject with the same code, which is an outcome like others.
            is_refused = outcome.status == "error" and outcome.code == CommandIdReused.code
            if not is_refused:
                outcome = await self._store(received, outcome)
            if is_refused or received.is_bare:
                refusal = outcome if is_refused else None
                await self._outcomes.note_sequence(received.delivery.sequence, command_id, refusal)
            return outcome
        finally:
            self._ids.release(command_id)

    def _store(self, received: ReceivedCommand, outcome: Outcome) -> Coroutine[Any, Any, Outcome]:
        content = received.content
        return self._outcomes.put(
            outcome,
            sequence=received.delivery.sequence,
            about=about(self._codec, received),
            digest=content.digest if isinstance(content, DecodedCommand) else None,
        )

    async def _report_rejection(self, received: ReceivedCommand, outcome: Outcome) -> None:
        """Have the process that has sent a command learn that it is rejected."""
        content = received.content
        if self._rejections is not None and isinstance(content, DecodedCommand) and content.process:
            await own_task()  # which reading and appending may need
            await self._rejections(content, outcome)

    async def _outcome_of(self, received: ReceivedCommand) -> Outcome:
        if isinstance(received.content, Exception):
            return await self._park(received, received.content)
        try:
            with only_own_cancellation():
                redelivered = received.delivery.delivered > 1
                return await self._handler.handle(received.content, redelivered=redelivered)
        except Exception as error:  # a failing decider must not stop other commands
            if not await self._is_exhausted(received, error):
                raise
            if not isinstance(error, EventStoreError) or isinstance(error, HandlerFailed):
                _logger.exception(
                    "%s failed at attempt %d, and is parked: %s",
                    _described(received),
                    received.delivery.delivered,
                    type(error).__name__,
                )
            outcome = await self._park(received, error)
            if (
                isinstance(error, CommandIdReused) and error.by_fact
            ):  # no other command has an outcome
                await self._store(received, outcome)
            return outcome

    async def _is_exhausted(self, received: ReceivedCommand, error: Exception) -> bool:
        """Whether a command has failed so often that it is parked, this time included.

        Its deliveries count, to whichever worker; but not if some went to a release that left it.
        """
        limit = self._max_deliveries_of(error)
        failures = self._failures.add(received.delivery)
        if received.delivery.delivered < limit:
            return False
        return failures >= limit or not await self._others.were_left(received.aggregate)

    def _max_deliveries_of(self, error: Exception) -> int:
        """How often a command that fails like this is delivered before it is parked."""
        if not isinstance(error, EventStoreError) or isinstance(error, HandlerFailed):
            return self._max_failures
        return 1 if _is_permanent(error) else self._max_deliveries

    async def _park(self, received: ReceivedCommand, error: Exception) -> Outcome:
        outcome = Outcome.error(
            error, received.command_id, received.aggregate, received.aggregate_id
        )
        await park(
            *(self._client, self._stream, received),
            code=outcome.code,
            reason=outcome.message,
            aggregate_id=received.aggregate_id,
            command_id=received.command_id,
        )
        self._telemetry.count("parked", code=outcome.code)
        return outcome

    async def _requeue(self, commands: Iterable[ReceivedCommand]) -> None:
        """Requeue commands, for any worker to take immediately."""
        for each in commands:
            await self._acks.nak(each)
            self.returned += 1


def _type_of(received: ReceivedCommand) -> str:
    """The command's type; one that could not be decoded has none that can be trusted."""
    content = received.content
    return content.envelope.type if isinstance(content, DecodedCommand) else "unknown"


def _described(received: ReceivedCommand) -> str:
    """A command for a line of the log: its type, id and aggregate."""
    aggregate = f"{received.aggregate} {received.aggregate_id or '-'}"
    return f"command {_type_of(received)} {received.command_id} on {aggregate}"


def _is_permanent(error: EventStoreError) -> bool:
    """Whether the command can never be carried out."""
    others = ClientError | LogDiverged | MasterKeyError | TopologyError
    return not (error.retryable or isinstance(error, others))
