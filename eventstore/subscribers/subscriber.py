"""Subscribers: pass the feed's events to typed handlers, from a durable position.

    mailer = EventSubscriber(client, codec, "mailer")

    @mailer.handles
    async def built(event: PackageBuilt, recorded: RecordedEvent) -> None: ...

    async with running(mailer):
        ...

What the handlers publish is correlated to the event that they handle
(`eventstore.store.publisher`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Self, Unpack

from eventstore.client.client import Client, Msg
from eventstore.client.responder import Responder
from eventstore.concurrency.failures import ungrouped
from eventstore.concurrency.keyed import KeyedQueue, QueueTurn
from eventstore.errors import (
    ClientError,
    DeciderError,
    SubscriberLost,
)
from eventstore.jetstream.acks import Acknowledgements, DeliveredMessage
from eventstore.jetstream.consumer import PullConsumer, is_transient
from eventstore.jetstream.retry import Retry
from eventstore.messages.codec import Codec, check_events
from eventstore.messages.handlers import EventHandler
from eventstore.messages.types import Event
from eventstore.parking.retry import retry_answer
from eventstore.store.keyring import Keyring
from eventstore.subscribers.consumer import SubscriberConsumer, declare_subscriber
from eventstore.subscribers.declaration import H, Subscriber, SubscriberOptions
from eventstore.subscribers.delivery import EventDelivery
from eventstore.subscribers.feed_watch import STALLED_SECONDS, FeedWatch
from eventstore.subscribers.processor import EventProcessor
from eventstore.subscribers.subscription import Subscription, subjects_of
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_PREFETCH = 64
_MAX_RETRIES = 64  # of parked events at a time
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class EventSubscriber:
    """Handles events one after another, or concurrently, until it is stopped.

    `subscriber` is its declaration, or a name for one with `options` (`Subscriber`), whose handlers
    are added to this object. `resources` are what handlers need besides the event and its record,
    by the names of their keyword-only parameters: an extra one is not passed.

    The name is the subscriber's durable position in the event stream, shared by all processes that
    use it: each event goes to one of them. `start` is where a new name begins: with "all" events
    that the stream still has, with "new" ones, acknowledged from then on, or after a position of
    the log. Nothing at or before that position is handled, however late the feed publishes it and
    however often the name is started, even with another `start`.

    A name may gain and lose events; its position stays. Of an event that it gains, what is
    acknowledged once that process is `ready` is handled, and nothing that passed before it was
    started, even if the name had not got there yet (`eventstore subscriber reset` redelivers). Of
    an event that it loses, nothing more is handled. While processes of two releases run, the newer
    one decides, which is the one whose set of events was wanted last for the first time. An older
    process passes on events that it has no handler for; one that nobody takes in about 20 attempts
    is parked. An older release decides again if it is started while no other process runs. Of two
    new releases that are started at the same time, the one with more events decides.

    `max_concurrency`, `ordered` and `ack_wait` may change as well: the process that was started
    last decides, unless it is of an older release. Beside processes that wait longer than the new
    `ack_wait`, an event that takes longer may be handled twice until they are restarted.

    A new name that `continues` an old one takes over its position, once: nothing is delivered to
    the old name any more, a process of it that runs may end what it handles, and one that is
    started is refused. What it does not end in 5 seconds is handled again; so may be, unless
    `ordered`, what it handled beside that. Parked events of the old name are retried by the new
    one. If there is no old name, `start` counts; if the new name has a position already, it is
    refused.

    `acknowledge="after"`: each event is handled at least once, and redelivered after a crash.
    "before": at most once, and never retried. `ordered`: strictly in the order of the log, across
    all processes, whatever fails; otherwise up to `max_concurrency` at a time across all processes,
    in order within each aggregate as long as there is one process and it does not end.

    A handler that raises is called up to `max_attempts` times, with a pause of `backoff` seconds
    before the second call, doubled before each later one (30 at most). Then the event is parked,
    and the next one follows; an event that cannot be decoded is parked immediately. A handler may
    take as long as it needs; what a process was handling when it died is redelivered after
    `ack_wait` seconds.

    A parked event that is retried (`ParkedMessages.retry`) is handled by one of the running
    processes, in its turn: among all events if `ordered`, otherwise among those of its aggregate.
    Other processes go on meanwhile, and later events may have been handled long before. The event
    stays parked until its handler succeeds, so a crash loses nothing, and the next retry may repeat
    it. For this a subscriber listens on `{domain}.retry.{name}`, and reads and deletes parked
    messages.

    Events that the event stream dropped by age before they were handled are not handled.

    Events that an older program published are upcast, and the events they become are handled in
    order, as far as there are handlers. Handlers of named events receive what was published on the
    subjects that these have today: a type that is renamed should keep its action.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        subscriber: Subscriber | str,
        *,
        resources: Mapping[str, Any] = _NOTHING,
        telemetry: Telemetry = NO_TELEMETRY,
        **options: Unpack[SubscriberOptions],
    ) -> None:
        if isinstance(subscriber, str):
            subscriber = Subscriber(subscriber, **options)
        elif options:
            raise DeciderError(
                f"subscriber {subscriber.name}: {', '.join(options)} belong into its declaration"
            )
        self.name = subscriber.name
        self.declared = subscriber
        self.ready = asyncio.Event()
        self._client = client
        self._codec = codec
        self._stream = codec.subjects.event_stream
        self._resources = dict(resources)
        self._telemetry = telemetry
        self._acks = Acknowledgements(client)
        self._keyring = Keyring(client, codec.subjects)
        self._stopping = asyncio.Event()
        self._consuming: Retry | None = None
        self._delivery = self._new_delivery()
        self._events = self._new_processor(Subscription(frozenset()))
        self.feed = FeedWatch(client, codec, stalled=STALLED_SECONDS)

    @property
    def retries(self) -> int:
        """How often a handler was called again after a failure."""
        return self._delivery.retries

    @property
    def handled(self) -> int:
        """How many events were handled, those that were parked before included."""
        return self._events.handled

    @property
    def error(self) -> Exception | None:
        """Why it takes no events at the moment; None if it does, or waits for one."""
        return None if self._consuming is None else self._consuming.error

    @property
    def parked(self) -> int:
        """How many events were parked."""
        return self._events.parked

    @property
    def passed_on(self) -> int:
        """How often an event was left to processes that have a handler of it."""
        return self._events.passed_on

    def handles(self, function: H) -> H:
        """As `Subscriber.handles`."""
        return self.declared.handles(function)

    def subscribe(self, events: Iterable[type[Event]], handler: EventHandler) -> Self:
        """As `Subscriber.subscribe`; returns itself, to be run."""
        self.declared.subscribe(events, handler)
        return self

    def stop(self) -> None:
        """Take no more events; `run` then returns when the running handlers have ended.

        Events that have not begun, or wait for their next attempt, are requeued immediately.
        """
        self._stopping.set()

    async def run(self) -> None:
        """Handle events until `stop`; if cancelled, events in progress will be redelivered.

        Lost connections are waited out, and so is a consumer that was deleted, until it is created
        again: `error` says so. Raises `DeciderError` without a handler or a resource that
        one needs, or for an event of another domain, `SubscriberContinued`, `StreamDrift` if the
        consumer has other settings, `EventsGone`, `StreamMissing`, and `ClientError` if the server
        refuses or the connection was closed for good.
        """
        if self._stopping.is_set():
            return
        declared = self.declared
        if declared.event_types == []:
            raise DeciderError(f"subscriber {self.name} has no handler")
        check_events(f"subscriber {self.name}", declared.event_types or (), self._codec)
        self._acks = Acknowledgements(self._client)
        self._delivery = self._new_delivery()  # with all handlers by now
        subscription = await declare_subscriber(
            self._client,
            self._codec.subjects,
            SubscriberConsumer.of(self._codec.subjects, declared),
            declared.start,
        )
        self._events = self._new_processor(subscription)
        try:
            with ungrouped():
                async with asyncio.TaskGroup() as tasks:
                    await self._run_tasks(tasks, subscription.ack_wait)
        finally:
            await self._keyring.close()

    def _new_processor(self, subscription: Subscription) -> EventProcessor:
        return EventProcessor(
            *(self._client, self._codec, self.declared),
            *(self._delivery, self._acks, self._keyring),
            subjects=self.wanted,
            subscription=subscription,
            stopping=self._stopping,
            telemetry=self._telemetry,
        )

    def _new_delivery(self) -> EventDelivery:
        declared = self.declared
        return EventDelivery(
            self._codec,
            declared.handlers.bound(self._resources),
            self.name,
            max_attempts=declared.max_attempts,
            backoff=declared.backoff,
            stopping=self._stopping,
            telemetry=self._telemetry,
        )

    @property
    def wanted(self) -> frozenset[str]:
        """The public subjects of the events that have handlers, or the wildcard of all."""
        return subjects_of(self._codec.subjects, self.declared.event_types)

    async def _run_tasks(self, tasks: asyncio.TaskGroup, ack_wait: float) -> None:
        keep_alive = tasks.create_task(self._acks.extend_ack_waits(ack_wait))
        watch = tasks.create_task(self.feed.run(f"subscriber {self.name}"))
        async with self._queue() as queue:
            retries = [self._retries(queue, name) for name in self.declared.names]
            for each in retries:
                tasks.create_task(each.run())
                await each.ready.wait()
            consumption = tasks.create_task(self._consume(queue))
            try:
                await self._stopping.wait()
            finally:  # before the queue closes
                for each in retries:
                    each.stop()
                consumption.cancel()
                await asyncio.wait([consumption])
            for item in queue.clear():
                if isinstance(item, QueueTurn):
                    item.refuse()
        await self._acks.nak_all()
        keep_alive.cancel()
        watch.cancel()

    def _queue(self) -> KeyedQueue[DeliveredMessage | QueueTurn]:
        # Nothing waits to enter the queue: neither a delivery, even if it is acknowledged before it
        # is handled, nor a retry, which a stop could not reach then.
        max_pending = 2 * self.declared.max_concurrency + _MAX_RETRIES
        return KeyedQueue(
            self._work, max_concurrency=self.declared.max_concurrency, max_pending=max_pending
        )

    def _retries(self, queue: KeyedQueue[DeliveredMessage | QueueTurn], name: str) -> Responder:
        answer = retry_answer(partial(self._events.retry, queue))
        subject = self._codec.subjects.retry(name)
        return Responder(self._client, {subject: answer}, queue=name, max_concurrency=_MAX_RETRIES)

    async def _consume(self, queue: KeyedQueue[DeliveredMessage | QueueTurn]) -> None:
        retry = self._consuming = Retry(
            self._client, f"subscriber {self.name}", passes=is_transient
        )

        async def work() -> None:
            if retry.error is not None:
                await self._read_subscription()
            async with PullConsumer(
                self._client, self._stream, self.name, buffer=_PREFETCH
            ) as pull:
                self.ready.set()
                try:
                    await self._enqueue(pull, queue, retry)
                finally:
                    await self._requeue(await pull.finish())

        await retry.run(work)

    async def _read_subscription(self) -> None:
        """See whether the consumer was changed; raises `SubscriberLost` if it was deleted."""
        try:
            await self._events.read_subscription()
        except SubscriberLost:
            raise
        except ClientError:  # which pulling is about to raise, too
            return

    async def _enqueue(
        self,
        pull: PullConsumer,
        queue: KeyedQueue[DeliveredMessage | QueueTurn],
        retry: Retry,
    ) -> None:
        while True:
            (message,) = await pull.take(1)
            retry.recovered()
            tracked = DeliveredMessage(message)
            if await self._acks.track(tracked):
                key = self._events.key_of(message.subject, message.headers or {})
                await queue.put(key, tracked)

    async def _requeue(self, left: Iterable[Msg]) -> None:
        """Have what was delivered and not taken redelivered; after a stop, with all the others."""
        for tracked in map(DeliveredMessage, left):
            if await self._acks.track(tracked) and not self._stopping.is_set():
                await self._acks.nak(tracked)

    async def _work(self, item: DeliveredMessage | QueueTurn) -> None:
        if isinstance(item, QueueTurn):
            await item.give()
        else:
            await self._events.process(item)
