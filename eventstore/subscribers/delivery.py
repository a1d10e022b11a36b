"""Delivery: passes an event to its handlers, and retries after a pause if one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from eventstore.concurrency.backoff import Backoff, pause
from eventstore.concurrency.failures import only_own_cancellation
from eventstore.errors import EventStoreError, InvalidMessage, ProcessWaits, UnknownType
from eventstore.messages.codec import Codec
from eventstore.messages.context import MessageContext
from eventstore.messages.encryption import Keys
from eventstore.messages.events import RecordedEvent
from eventstore.messages.handlers import EventHandler, EventHandlers, handle
from eventstore.messages.text import make_log_records_safe
from eventstore.messages.undecodable import text_of
from eventstore.subscribers.publication import read_publication
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_MAX_DELAY = 30.0
_MAX_REMEMBERED = 1_000

_logger = make_log_records_safe(logging.getLogger(__name__))


class DeliveryResult(NamedTuple):
    """The number of attempts of the handler, and the error of the last one, if it failed."""

    attempts: int
    error: Exception | None


class EventDelivery:
    """Calls one subscriber's handlers, each up to `max_attempts` times.

    The first pause is `backoff` seconds, and each later one twice the one before, at most 30.
    """

    def __init__(
        self,
        codec: Codec,
        handlers: EventHandlers,
        subscriber: str,
        *,
        max_attempts: int,
        backoff: float,
        stopping: asyncio.Event,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.retries = 0
        self._waited_for: deque[str] = deque(maxlen=_MAX_REMEMBERED)
        self._telemetry = telemetry
        self._codec = codec
        self._handlers = handlers
        self._subscriber = subscriber
        self._max_attempts = max_attempts
        self._backoff = Backoff(backoff, _MAX_DELAY, jitter=0)
        self._stopping = stopping

    async def handle(
        self, subject: str, headers: Mapping[str, str], payload: bytes, keys: Keys
    ) -> DeliveryResult | None:
        """Pass a published event to its handlers; without an attempt if it cannot be decoded.

        `keys` are those that decrypt it. Returns None if the subscriber was stopped before the next
        attempt.
        """
        result: DeliveryResult | None = DeliveryResult(0, None)
        try:
            parts = self._decode(subject, headers, payload, keys)
        except InvalidMessage as error:
            return DeliveryResult(0, error)
        for recorded, handler in parts:
            result = await self._call(recorded, handler)
            if result is None or result.error is not None:
                break
        return result

    def _decode(
        self, subject: str, headers: Mapping[str, str], payload: bytes, keys: Keys
    ) -> list[tuple[RecordedEvent, EventHandler]]:
        """One event, or the parts of one of an older schema, each with its handler."""
        parts = read_publication(self._codec, subject, headers, payload, keys)
        with_handlers = [(part, self._handlers.find(type(part.data))) for part in parts]
        handled = [(part, handler) for part, handler in with_handlers if handler is not None]
        if parts and not handled:
            raise UnknownType(f"subscriber {self._subscriber} has no handler of {parts[0].type}")
        return handled

    async def _call(self, recorded: RecordedEvent, handler: EventHandler) -> DeliveryResult | None:
        attempts, causes = 0, set[str]()
        while True:
            attempts += 1
            try:
                with only_own_cancellation(), MessageContext.of(recorded, self._subscriber).begun():
                    await handle(handler, recorded)
            except Exception as error:  # whatever a handler raises, the subscriber goes on
                self._report(recorded, attempts, error, causes)
                if attempts >= self._max_attempts:
                    return DeliveryResult(attempts, error)
            else:
                self._telemetry.count("events_handled", subscriber=self._subscriber)
                return DeliveryResult(attempts, None)
            if await pause(self._backoff.delay(attempts), self._stopping):
                return None
            self.retries += 1
            self._telemetry.count("retries", operation="subscriber")

    def _report(
        self, recorded: RecordedEvent, attempts: int, error: Exception, causes: set[str]
    ) -> None:
        """Log a failure as one line, with a traceback if it is unforeseen and a new cause.

        `causes` are those of the earlier attempts. Any number of events may wait for one that a
        process has failed at: they have one line together.
        """
        cause = f"{type(error).__name__}: {text_of(error)}"
        if isinstance(error, ProcessWaits):
            if cause in self._waited_for:
                return
            self._waited_for.append(cause)
        unforeseen = not isinstance(error, EventStoreError) and cause not in causes
        causes.add(cause)
        _logger.warning(
            "subscriber %s: %s at position %d, attempt %d of %d failed: %s",
            *(self._subscriber, recorded.type, recorded.position),
            *(attempts, self._max_attempts, cause),
            exc_info=error if unforeseen else None,
        )
