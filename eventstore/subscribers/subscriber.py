"""Subscribing: events of the feed, handed to typed handlers of a service, from a durable position.

    mailer = EventSubscriber(client, codec, "mailer")

    @mailer.handles
    async def built(event: PackageBuilt, recorded: RecordedEvent) -> None: ...

    async with running(mailer):
        ...

What the handlers publish is correlated to the event they were handed
(`eventstore.store.publisher`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Literal, Self, TypeVar

from eventstore.client.client import Client
from eventstore.client.responder import Responder
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.failures import ungrouped
from eventstore.concurrency.keyed import KeyedQueue, QueueTurn
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import (
    ClientError,
    DeciderError,
    EventStoreError,
    InvalidMessage,
    ParkedError,
    TopologyError,
)
from eventstore.jetstream.acks import Acknowledgements, DeliveryTracker
from eventstore.jetstream.consumer import PullConsumer, may_pass
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import Keys
from eventstore.messages.envelope import Header, RecordedEvent, position_of
from eventstore.messages.handlers import EventHandler, EventHandlers
from eventstore.messages.subjects import Subject, check_name
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessages
from eventstore.parking.park import park_event, reason_of
from eventstore.parking.record import ParkedRecord
from eventstore.parking.retry import retry_answer
from eventstore.store.keyring import Keyring
from eventstore.subscribers.consumer import Start, check_consumer, declare_subscriber, event_filter
from eventstore.subscribers.delivery import DeliveryResult, DeliveryStopped, EventDelivery
from eventstore.text import make_log_records_safe

__all__ = ["Acknowledge", "EventSubscriber"]

Acknowledge = Literal["after", "before"]
"""When an event counts as handled: after its handler has returned (at least once), or before it is
called (at most once)."""

_PREFETCH = 64
_MOST_DELIVERIES = 20  # of an event whose handling ends no process has lived to see
_MOST_RETRIES = 64  # that are asked for at a time
_RETRY_SECONDS = 1.0
_BACKOFF = Backoff(_RETRY_SECONDS, _RETRY_SECONDS)
_STOPPING = "it is being stopped"

_logger = make_log_records_safe(logging.getLogger(__name__))

E = TypeVar("E", bound=Event)


class EventSubscriber:
    """Handles events one after another, or many at once, until told to stop; runs once.

    `name` is the subscriber's durable position in the event stream, shared by all processes that
    use it: each event goes to one of them. `start` says where a new name begins: with "all" events
    that the stream still has, with "new" ones, acknowledged from then on, or after a position of
    the log. Nothing at or before that position is handled, whenever the feed publishes it and
    however often the name is started again, also with another `start`. What a name subscribes to
    stays as it is: other handlers need another name, or an edit of the consumer.

    `acknowledge="after"`: each event is handled at least once, again after a crash. "before": at
    most once, and never again after a failure. `ordered`: strictly in the order of the log, over
    all processes, whatever fails; otherwise up to `in_flight` at a time, over all processes, in
    order within each aggregate as long as there is one process and it does not end.

    A handler that raises is tried up to `attempts` times, first after `backoff` seconds, each time
    after twice as long (30 at most). Then, or at once where the event cannot be understood, it is
    parked and the next one follows. A handler may take as long as it likes; what a process that
    dies was handling is delivered again after `ack_wait` seconds.

    A parked event that is retried (`ParkedMessages.retry`) is handled by one of the processes that
    run. There it waits its turn: among all events where `ordered`, else among those of its
    aggregate; other processes go on meanwhile, and what came after it may have been handled long
    since. It is parked until that has succeeded, so a crash loses nothing, and the next retry may
    repeat it. For this a subscriber listens on `{domain}.retry.{name}`, and reads and deletes what
    is parked.

    What the event stream dropped by its age before it was handled is not handled.

    Events that an older program has published are upcast; what one is then read as is handled in
    its order, as far as there are handlers. Handlers of named events get what was published on the
    subjects these have today: a type that is renamed should keep its action.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        name: str,
        *,
        start: Start = "all",
        acknowledge: Acknowledge = "after",
        ordered: bool = True,
        in_flight: int = 64,
        attempts: int = 5,
        backoff: float = 0.2,
        ack_wait: float = 30.0,
    ) -> None:
        self.name = check_name("subscriber", name)
        self.ready = asyncio.Event()
        self.handled = 0
        self.parked = 0
        self._client = client
        self._codec = codec
        self._stream = codec.subjects.event_stream
        self._start = start
        self._after = 0
        self._acknowledge_first = acknowledge == "before"
        self._ordered = ordered
        self._in_flight = 1 if ordered else in_flight
        self._ack_wait = ack_wait
        self._handlers = EventHandlers(name)
        self._settling = Acknowledgements(client)
        self._keyring = Keyring(client, codec.subjects)
        self._parked = ParkedMessages(client, codec.subjects)
        self._stopping = asyncio.Event()
        self._attempts = EventDelivery(
            codec,
            self._handlers,
            name,
            most=1 if self._acknowledge_first else attempts,
            backoff=backoff,
            stopping=self._stopping,
        )

    def handles(
        self, function: Callable[[E, RecordedEvent], Awaitable[None]]
    ) -> Callable[[E, RecordedEvent], Awaitable[None]]:
        """Register the handler of the event, or union of events, its first parameter names.

        Raises `DeciderError` for what cannot work.
        """
        self._handlers.add_annotated(function)
        return function

    def subscribe(self, events: Iterable[type[Event]], handler: EventHandler) -> Self:
        """Register a handler of these events, or of all where none are named; returns itself.

            async with running(subscriber.subscribe([FlakeCreated, PackageBuilt], handler)): ...

        Raises `DeciderError` for what cannot work.
        """
        self._handlers.add(events, handler)
        return self

    def stop(self) -> None:
        """Take no more events; `run` then returns when the handlers under way have ended.

        What has not begun, or waits for its next attempt, goes back to the stream at once.
        """
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`; cancelled, it leaves what is under way to be delivered again.

        Lost connections are waited out. Raises `DeciderError` without any handler, `StreamDrift`
        where the name subscribes to something else, `EventsGone`, `StreamMissing`, and
        `ClientError` where the server refuses or the connection was closed for good.
        """
        settings = self._settings()
        self._after = await declare_subscriber(
            self._client, self._codec.subjects, self.name, settings, self._start
        )
        try:
            with ungrouped():
                async with asyncio.TaskGroup() as tasks:
                    await self._work_off(tasks)
        finally:
            await self._keyring.close()

    async def _work_off(self, tasks: asyncio.TaskGroup) -> None:
        holding = tasks.create_task(self._settling.keep_holding(self._ack_wait))
        async with self._lanes() as lanes:
            retries = self._retries(lanes)
            tasks.create_task(retries.run())
            await retries.ready.wait()
            intake = tasks.create_task(self._intake(lanes))
            try:
                await self._stopping.wait()
            finally:  # before the lanes close
                retries.stop()
                intake.cancel()
                await asyncio.wait([intake])
            for item in lanes.clear():
                if isinstance(item, QueueTurn):
                    item.refuse()
        await self._settling.give_back_all()
        holding.cancel()

    def _settings(self) -> dict[str, object]:
        types = self._handlers.event_types
        if types is not None and not types:
            raise DeciderError(f"subscriber {self.name} has no handler")
        return {
            "durable_name": self.name,
            "ack_policy": "explicit",
            "ack_wait": int(self._ack_wait * 1e9),
            "max_deliver": -1,
            "max_ack_pending": self._in_flight,
            **event_filter(self._codec.subjects, types),
        }

    def _lanes(self) -> KeyedQueue[DeliveryTracker | QueueTurn]:
        # Nothing waits for room: not what the server delivers, what is acknowledged before it is
        # handled included, and no retry, which could then be told of no stop.
        max_pending = 2 * self._in_flight + _MOST_RETRIES
        return KeyedQueue(self._work, max_concurrency=self._in_flight, max_pending=max_pending)

    def _retries(self, lanes: KeyedQueue[DeliveryTracker | QueueTurn]) -> Responder:
        answer = retry_answer(partial(self._retry, lanes))
        subject = self._codec.subjects.retry(self.name)
        return Responder(
            self._client, {subject: answer}, queue=self.name, max_concurrency=_MOST_RETRIES
        )

    async def _intake(self, lanes: KeyedQueue[DeliveryTracker | QueueTurn]) -> None:
        what = f"subscriber {self.name}"
        supervisor = Supervisor(what, _logger, _BACKOFF, passes=self._passes)

        async def work() -> None:
            if supervisor.error is not None:
                with suppress(ClientError):
                    await check_consumer(self._client, self._codec.subjects, self.name)
            async with PullConsumer(
                self._client, self._stream, self.name, buffer=_PREFETCH
            ) as pull:
                self.ready.set()
                await self._take_from(pull, lanes, supervisor)

        await supervisor.run(work)

    def _passes(self, error: Exception) -> bool:
        return isinstance(error, ClientError) and not self._client.is_closed and may_pass(error)

    async def _take_from(
        self,
        pull: PullConsumer,
        lanes: KeyedQueue[DeliveryTracker | QueueTurn],
        supervisor: Supervisor,
    ) -> None:
        try:
            while True:
                (message,) = await pull.take(1)
                supervisor.recovered()
                taken = DeliveryTracker(message)
                if await self._settling.hold(taken):
                    await lanes.put(self._lane_of(message.subject, message.headers or {}), taken)
        finally:  # some are left only where it was told to stop, and all go back then
            for message in pull.leftover():
                await self._settling.hold(DeliveryTracker(message))

    def _lane_of(self, subject: str, headers: Mapping[str, str]) -> Hashable:
        if self._ordered:
            return None
        return Subject.split(subject).aggregate, headers.get(Header.AGGREGATE_ID)

    async def _work(self, item: DeliveryTracker | QueueTurn) -> None:
        if isinstance(item, QueueTurn):
            await item.give()
        else:
            await self._process(item)

    async def _process(self, taken: DeliveryTracker) -> None:
        """Handle one event, or park it, and settle it with the server."""
        if self._stopping.is_set():
            return  # it stays held, and goes back with the others
        if self._is_before_start(taken):
            await self._settling.done(taken)
            return
        try:
            # First, for what is acknowledged does not come again where they cannot be had.
            keys = await self._keyring.to_open([taken.message.headers])
            if self._acknowledge_first:
                await self._settling.confirm(taken)
            attempts, error = await self._handle(taken, keys)
            if error is None:
                self.handled += 1
            else:
                await self._park(taken, error, attempts)
        except DeliveryStopped:
            return
        except TopologyError:
            raise
        except Exception as error:  # whatever it is, the event comes again and others go on
            where = f"{taken.message.subject} at sequence {taken.delivery.sequence}"
            unforeseen = None if isinstance(error, EventStoreError) else error
            _logger.warning("subscriber %s: %s: %s", self.name, where, error, exc_info=unforeseen)
            await self._settling.give_back(taken, _RETRY_SECONDS)
        else:
            await self._settling.done(taken)

    def _is_before_start(self, taken: DeliveryTracker) -> bool:
        position = position_of(taken.message.headers or {})
        return position is not None and position <= self._after

    async def _handle(self, taken: DeliveryTracker, keys: Keys) -> DeliveryResult:
        message, delivered = taken.message, taken.delivery.delivered
        if delivered > _MOST_DELIVERIES:
            problem = f"delivered {delivered} times, and never handled to the end"
            return DeliveryResult(0, InvalidMessage(problem))
        headers = message.headers or {}
        return await self._attempts.handle(message.subject, headers, message.data, keys)

    async def _retry(self, lanes: KeyedQueue[DeliveryTracker | QueueTurn], sequence: int) -> None:
        """Handle a parked event again, in its turn; it is parked until that has succeeded."""
        record = (await self._parked.get(sequence)).record
        if record.subscriber != self.name:
            raise ParkedError(f"it is parked for {record.subscriber or 'no subscriber'}")
        turn = QueueTurn()
        if self._stopping.is_set():
            raise ParkedError(_STOPPING)
        await lanes.put(self._lane_of(record.subject, record.headers), turn)
        async with turn.awaited() as given:
            if not given or self._stopping.is_set():
                raise ParkedError(_STOPPING)
            await self._parked.get(sequence)  # which others may have retried meanwhile
            await self._handle_parked(record)
            self.handled += 1
            await self._parked.discard(sequence)

    async def _handle_parked(self, record: ParkedRecord) -> None:
        keys = await self._keyring.to_open([record.headers])
        own = record.subject, record.headers, record.payload
        try:
            tried = await self._attempts.handle(*own, keys)
        except DeliveryStopped:
            raise ParkedError(_STOPPING) from None
        if tried.error is not None:
            raise ParkedError(reason_of(tried.error)) from tried.error

    async def _park(self, taken: DeliveryTracker, error: Exception, attempts: int) -> None:
        await park_event(self._client, self.name, self._stream, taken, error, attempts)
        self.parked += 1
