"""Attempts: an event is handed to its handlers, and again after a pause where one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple

from eventstore.concurrency.backoff import Backoff, pause
from eventstore.concurrency.failures import only_own_cancellation
from eventstore.errors import InvalidMessage, UnknownType
from eventstore.messages.codec import Codec
from eventstore.messages.context import MessageContext
from eventstore.messages.encryption import Keys
from eventstore.messages.envelope import RecordedEvent
from eventstore.messages.handlers import EventHandler, EventHandlers
from eventstore.subscribers.publication import read_publication
from eventstore.text import make_log_records_safe

__all__ = ["DeliveryResult", "DeliveryStopped", "EventDelivery"]

_MAX_DELAY = 30.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class DeliveryStopped(Exception):
    """The subscriber was stopped before the next attempt."""


class DeliveryResult(NamedTuple):
    """How often an event was handed to its handler, and the error that remains, if one does."""

    attempts: int
    error: Exception | None


class EventDelivery:
    """Has events handled by one subscriber's handlers: up to `most` times each.

    The first pause is `backoff` seconds, each other twice as long as the one before (30 at most).
    """

    def __init__(
        self,
        codec: Codec,
        handlers: EventHandlers,
        subscriber: str,
        *,
        most: int,
        backoff: float,
        stopping: asyncio.Event,
    ) -> None:
        self._codec = codec
        self._handlers = handlers
        self._subscriber = subscriber
        self._most = most
        self._backoff = Backoff(backoff, _MAX_DELAY, jitter=0)
        self._stopping = stopping

    async def handle(
        self, subject: str, headers: Mapping[str, str], payload: bytes, keys: Keys
    ) -> DeliveryResult:
        """Hand a published event to its handlers; one that is not understood, to none.

        `keys` are those that it takes to read it. Raises `DeliveryStopped` in place of the next
        attempt.
        """
        tried = DeliveryResult(0, None)
        try:
            parts = self._understand(subject, headers, payload, keys)
        except InvalidMessage as error:
            return DeliveryResult(0, error)
        for recorded, handler in parts:
            tried = await self._try(recorded, handler)
            if tried.error is not None:
                break
        return tried

    def _understand(
        self, subject: str, headers: Mapping[str, str], payload: bytes, keys: Keys
    ) -> list[tuple[RecordedEvent, EventHandler]]:
        """What is to be handled: one event, or the parts of one of an older schema."""
        parts = read_publication(self._codec, subject, headers, payload, keys)
        found = [(part, self._handlers.find(type(part.data))) for part in parts]
        wanted = [(part, handler) for part, handler in found if handler is not None]
        if parts and not wanted:
            raise UnknownType(f"subscriber {self._subscriber} has no handler of {parts[0].type}")
        return wanted

    async def _try(self, recorded: RecordedEvent, handler: EventHandler) -> DeliveryResult:
        attempts = 0
        while True:
            attempts += 1
            try:
                with only_own_cancellation(), MessageContext.of(recorded, self._subscriber).begun():
                    await handler(recorded.data, recorded)
            except Exception as error:  # whatever a handler raises, the others go on
                _logger.warning(
                    "subscriber %s: %s at position %d, attempt %d of %d failed",
                    *(self._subscriber, recorded.type, recorded.position),
                    *(attempts, self._most),
                    exc_info=error,
                )
                if attempts >= self._most:
                    return DeliveryResult(attempts, error)
            else:
                return DeliveryResult(attempts, None)
            if await pause(self._backoff.delay(attempts), self._stopping):
                raise DeliveryStopped
