"""What becomes of one event: handled, passed on to other processes, parked, or retried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Mapping
from typing import Any

from eventstore.client.client import Client
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.keyed import KeyedQueue, QueueTurn
from eventstore.errors import EventStoreError, InvalidMessage, ParkedError, TopologyError
from eventstore.jetstream.acks import Acknowledgements, DeliveredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import Keys
from eventstore.messages.headers import Header, position_of
from eventstore.messages.outcome import code_of
from eventstore.messages.subjects import Subject
from eventstore.messages.text import make_log_records_safe, presentable
from eventstore.parking.messages import ParkedMessages
from eventstore.parking.park import park
from eventstore.parking.record import ParkedRecord
from eventstore.store.keyring import Keyring
from eventstore.subscribers.consumer import check_consumer
from eventstore.subscribers.declaration import Subscriber
from eventstore.subscribers.delivery import DeliveryResult, EventDelivery
from eventstore.subscribers.subscription import Subscription
from eventstore.telemetry import Telemetry

_MAX_DELIVERIES = 20  # of an event that every process which handled it has died of
_RETRY_SECONDS = 1.0
_STOPPING = "the subscriber is being stopped"

_logger = make_log_records_safe(logging.getLogger(__name__))


class EventProcessor:
    """Processes the events of one subscriber, each until it is acknowledged.

    `subjects` are those of the events that this process handles, and `subscription` is what the
    subscriber's consumer delivers.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        declared: Subscriber,
        delivery: EventDelivery,
        acks: Acknowledgements,
        keyring: Keyring,
        *,
        subjects: frozenset[str],
        subscription: Subscription,
        stopping: asyncio.Event,
        telemetry: Telemetry,
    ) -> None:
        self.handled = 0
        self.parked = 0
        self.passed_on = 0
        self._client = client
        self._codec = codec
        self._declared = declared
        self._name = declared.name
        self._delivery = delivery
        self._acks = acks
        self._keyring = keyring
        self._own = subjects
        self._subscription = subscription
        self._stopping = stopping
        self._telemetry = telemetry
        self._parked = ParkedMessages(client, codec.subjects)
        self._backoff = Backoff(declared.backoff, 5 * declared.backoff, jitter=0)

    @property
    def retries(self) -> int:
        """How often a handler was called again after a failure."""
        return self._delivery.retries

    def key_of(self, subject: str, headers: Mapping[str, str]) -> Hashable:
        """What events share that must be handled in order."""
        if self._declared.ordered:
            return None
        return Subject.split(subject).aggregate, headers.get(Header.AGGREGATE_ID)

    async def read_subscription(self) -> None:
        """Take note of what the consumer delivers now; raises what `check_consumer` does."""
        before = self._subscription
        self._subscription = await check_consumer(self._client, self._codec.subjects, self._name)
        if self._subscription.created != before.created:
            self._acks.forget()

    async def process(self, tracked: DeliveredMessage) -> None:
        """Handle one event, or park it, and acknowledge it."""
        if self._stopping.is_set():
            return  # it stays tracked, and is requeued with the others
        position = position_of(tracked.message.headers or {})
        after = self._subscription.starts_after(tracked.message.subject)
        if position is not None and position <= after:
            await self._acks.ack(tracked)
            return
        try:
            if not self._handles(tracked) and await self._passes(tracked):
                return
            # First: if the keys cannot be read, an acknowledged event would not be redelivered.
            keys = await self._keyring.to_open([tracked.message.headers or {}])
            if self._declared.acknowledges_first:
                await self._acks.confirm(tracked)
            result = await self._handle(tracked, keys)
            if result is None:
                return  # stopped: it stays tracked, too
            if result.error is None:
                self.handled += 1
            else:
                await self._park(tracked, result.error, result.attempts)
        except TopologyError:
            raise
        except Exception as error:  # whatever it is, the event is redelivered and others go on
            source = f"{tracked.message.subject} at sequence {tracked.delivery.sequence}"
            unexpected = None if isinstance(error, EventStoreError) else error
            _logger.warning("subscriber %s: %s: %s", self._name, source, error, exc_info=unexpected)
            await self._acks.nak(tracked, _RETRY_SECONDS)
        else:
            await self._acks.ack(tracked)

    def _handles(self, tracked: DeliveredMessage) -> bool:
        return self._declared.event_types is None or tracked.message.subject in self._own

    async def _passes(self, tracked: DeliveredMessage) -> bool:
        """Leave an event that this process does not handle to others; False if nobody takes it.

        One that the name has lost meanwhile is for nobody.
        """
        subject, delivered = tracked.message.subject, tracked.delivery.delivered
        await self.read_subscription()
        if not self._subscription.delivers(subject):
            await self._acks.ack(tracked)
            return True
        if delivered > _MAX_DELIVERIES:
            return False
        if not self.passed_on:
            _logger.warning(
                "subscriber %s: has no handler of %s, to which newer processes of it subscribe; "
                "such events are left to them",
                *(self._name, subject),
            )
        self.passed_on += 1
        await self._acks.nak(tracked, self._backoff.delay(delivered))
        return True

    async def _handle(self, tracked: DeliveredMessage, keys: Keys) -> DeliveryResult | None:
        message, delivered = tracked.message, tracked.delivery.delivered
        if delivered > _MAX_DELIVERIES and self._handles(tracked):
            problem = f"delivered {delivered} times, and no process survived handling it"
            return DeliveryResult(0, InvalidMessage(problem))
        headers = message.headers or {}
        return await self._delivery.handle(message.subject, headers, message.data, keys)

    async def retry(self, queue: KeyedQueue[Any], sequence: int) -> None:
        """Retry a parked event in its turn; it stays parked until that succeeds.

        Raises `ParkedError`.
        """
        record = (await self._parked.get(sequence)).record
        if record.subscriber not in self._declared.names:
            raise ParkedError(f"it is parked for {record.subscriber or 'no subscriber'}")
        turn = QueueTurn()
        if self._stopping.is_set():
            raise ParkedError(_STOPPING)
        await queue.put(self.key_of(record.subject, record.headers), turn)
        async with turn.awaited() as given:
            if not given or self._stopping.is_set():
                raise ParkedError(_STOPPING)
            await self._parked.get(sequence)  # another process may have retried it meanwhile
            await self._handle_parked(record)
            self.handled += 1
            await self._parked.discard(sequence)

    async def _handle_parked(self, record: ParkedRecord) -> None:
        keys = await self._keyring.to_open([record.headers])
        message = record.subject, record.headers, record.payload
        result = await self._delivery.handle(*message, keys)
        if result is None:
            raise ParkedError(_STOPPING)
        if result.error is not None:
            raise ParkedError(_reason_of(result.error)) from result.error

    async def _park(self, tracked: DeliveredMessage, error: Exception, attempts: int) -> None:
        await park(
            *(self._client, self._codec.subjects.event_stream, tracked),
            code=code_of(error),
            reason=_reason_of(error),
            aggregate_id=(tracked.message.headers or {}).get(Header.AGGREGATE_ID),
            subscriber=self._name,
            attempts=attempts,
        )
        self.parked += 1
        self._telemetry.count("parked", code=code_of(error))


def _reason_of(error: Exception) -> str:
    """The text of a handler's error, or its type if it has none."""
    return presentable(error) or type(error).__name__
