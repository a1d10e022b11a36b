"""The whole log in order: from a position, in pages, and then live where that is wanted.

An ephemeral, unfiltered consumer without acknowledgements feeds it; when that consumer is lost,
the next one starts after the last event that was handed out, so nothing is skipped and nothing
repeated. "Caught up" comes from the server's count of what is left, never from a timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import msgspec
from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.codec import Codec
from eventstore.envelope import RecordedEvent, new_id
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    CorruptLog,
    EventStoreError,
    IncompleteBatch,
    InvalidMessage,
    JetStreamError,
    NoResponders,
    RequestTimeout,
    StreamMissing,
    UnknownType,
    UnreadableEvent,
)
from eventstore.pull import Delivery, Pull, PullLost

__all__ = ["BatchCheck", "History", "Page", "read_event"]

_NO_STREAM = 10059

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0
_LONGEST_WAIT = 5.0
_BATCH_SECONDS = 5.0
_LAGS = (0.05, 0.1, 0.2, 0.4, 0.8)

_logger = logging.getLogger("eventstore")


class Page(msgspec.Struct, frozen=True):
    """Some events in the order of the log.

    `position` is the last position the page covers, `pending` how many events are left after it
    (0: caught up). A page may be empty: the log was empty, or all its events were skipped.
    """

    events: list[RecordedEvent]
    position: int
    pending: int


class BatchCheck:
    """Sees that atomic batches are whole, while events pass in the order of the log."""

    def __init__(self) -> None:
        self._open: str | None = None
        self._sequence = 0
        self._first = True

    @property
    def is_open(self) -> bool:
        """Whether more events of the last one's batch must follow."""
        return self._open is not None

    def see(self, headers: dict[str, str], position: int) -> None:
        """Take note of the next message; raises `IncompleteBatch`."""
        batch = headers.get("Nats-Batch-Id")
        sequence = _number(headers.get("Nats-Batch-Sequence", ""))
        expected = self._sequence + 1 if batch == self._open else 1
        broken = self._open is not None and batch != self._open
        # Reading may begin in the middle of a batch.
        if broken or (batch is not None and sequence != expected and not self._first):
            raise IncompleteBatch(
                f"position {position}: batch {self._open or batch} breaks off "
                f"after {self._sequence} events"
            )
        self._first = False
        committed = "Nats-Batch-Commit" in headers
        self._open = None if committed else batch
        self._sequence = 0 if committed else sequence


def read_event(
    codec: Codec,
    subject: str,
    headers: dict[str, str],
    payload: bytes,
    position: int,
    *,
    skip_unknown: bool = False,
) -> RecordedEvent | None:
    """Read one message of the log; None for an unknown type that is to be skipped.

    Raises `UnreadableEvent`, which names the position and the cause.
    """
    try:
        return codec.recorded(subject, headers, payload, position)
    except InvalidMessage as error:
        if skip_unknown and isinstance(error, UnknownType):
            return None
        raise UnreadableEvent(position, subject, error) from error


class _Reading:
    """How far a reader has come, and what the next message must fit to."""

    def __init__(self, codec: Codec, position: int, *, skip_unknown: bool) -> None:
        self.position = position
        self.pending = 0
        self.trouble: EventStoreError | None = None
        self._codec = codec
        self._skip_unknown = skip_unknown
        self._batches = BatchCheck()
        self._delivered = 0

    def begin(self, pending: int) -> None:
        """Go on with a new consumer, which counts its messages anew."""
        self.pending = pending
        self.trouble = None
        self._delivered = 0

    @property
    def is_inside_batch(self) -> bool:
        """Whether the last event is not the last of its batch."""
        return self._batches.is_open

    def page(self, messages: Sequence[Msg]) -> Page | None:
        """Read messages up to the first that gives `trouble`; None if that is the first of all."""
        events: list[RecordedEvent] = []
        before = self.position
        try:
            for message in messages:
                event = self._read(message)
                if event is not None:
                    events.append(event)
        except (CorruptLog, PullLost) as error:
            self.trouble = error
        return Page(events, self.position, self.pending) if self.position > before else None

    def _read(self, message: Msg) -> RecordedEvent | None:
        delivery = Delivery.of(message)
        self._delivered += 1
        if delivery.consumer_sequence != self._delivered:
            raise PullLost(f"what followed position {self.position} was lost on its way")
        headers = message.headers or {}
        self._batches.see(headers, delivery.sequence)
        event = read_event(
            self._codec,
            message.subject,
            headers,
            message.data,
            delivery.sequence,
            skip_unknown=self._skip_unknown,
        )
        self.position, self.pending = delivery.sequence, delivery.pending
        return event


class _Patience:
    """How long a lost consumer is tried to be replaced, and how soon each time."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self.restore()

    def restore(self) -> None:
        """Begin anew, after a success."""
        self._delay = _FIRST_DELAY
        self._deadline: float | None = None

    async def wait(self, error: ClientError) -> None:
        """Wait before the next try; raises `error` where there should be none."""
        now = time.monotonic()
        if self._deadline is None:
            _logger.warning("reading the log: %s; trying again", error)
            self._deadline = now + self._seconds
        left = self._deadline - now
        if left <= 0 or self._client.is_closed:
            raise error
        await asyncio.sleep(min(self._delay * random.uniform(0.5, 1.0), left))  # noqa: S311
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        with contextlib.suppress(ConnectionLost):
            await self._client.wait_connected(min(left, _LONGEST_WAIT))


class History:
    """A reader of the whole log stream.

    `patience` is how many seconds a reader that is not live waits for a connection or a consumer
    to come back; a live one waits until the client is closed.
    """

    def __init__(self, client: Client, codec: Codec, *, patience: float = 30.0) -> None:
        self._client = client
        self._codec = codec
        self._stream = codec.subjects.log_stream
        self._patience = patience

    async def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """The events after a position, at most `max_events` a page.

        Without `live` it ends when it has caught up; with it, it waits for more and never ends
        by itself. Memory is bounded by four pages. All events before one that gives trouble are
        handed out first; then it raises `UnreadableEvent`, `IncompleteBatch`, or `CorruptLog`
        where `after` lies beyond the end of the log. Raises `StreamMissing`, and a `ClientError`
        where the server could not be asked for too long.
        """
        reading = _Reading(self._codec, after, skip_unknown=skip_unknown)
        patience = _Patience(self._client, math.inf if live else self._patience)
        while True:
            try:
                async with self._consumer(reading.position, 4 * max_events) as (pull, pending):
                    if pending == 0:
                        yield Page([], reading.position, 0)
                    reading.begin(pending)
                    while live or reading.pending or reading.is_inside_batch:
                        # The server hands out a batch's first events while it stores the rest.
                        unfinished = not live and not reading.pending
                        messages = await self._take(pull, max_events, unfinished=unfinished)
                        page = reading.page(messages)
                        if page is not None:
                            patience.restore()
                            yield page
                        if reading.trouble is not None:
                            raise reading.trouble
                    return
            except (PullLost, ConnectionLost, RequestTimeout, NoResponders) as error:
                await patience.wait(error)

    async def _take(self, pull: Pull, most: int, *, unfinished: bool) -> list[Msg]:
        bound = min(_BATCH_SECONDS, self._patience) if unfinished else None
        try:
            async with asyncio.timeout(bound):
                return await pull.take(most)
        except TimeoutError:
            raise IncompleteBatch(f"the log {self._stream} ends in the middle of a batch") from None

    async def identity(self) -> str:
        """When the stream was created, and its name; at most 128 characters."""
        created = (await self._info())["created"]
        return f"{created} {self._stream}"[:128]

    @contextlib.asynccontextmanager
    async def _consumer(self, after: int, buffer: int) -> AsyncIterator[tuple[Pull, int]]:
        await self._check_start(after)
        name = f"history-{new_id()}"
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 30_000_000_000,
        }
        answer = await self._client.api(
            f"CONSUMER.CREATE.{self._stream}.{name}",
            {"stream_name": self._stream, "config": config, "action": "create"},
        )
        pull = Pull(self._client, self._stream, name, buffer=buffer, acknowledged=False)
        try:
            async with pull:
                yield pull, answer["num_pending"]
        finally:
            with contextlib.suppress(EventStoreError):  # it goes by itself when unused
                await self._client.api(f"CONSUMER.DELETE.{self._stream}.{name}", timeout=1.0)

    async def _check_start(self, after: int) -> None:
        for delay in _LAGS:
            info = await self._info()
            last = info["state"]["last_seq"]
            if after <= last:
                return
            if info["config"]["num_replicas"] == 1:
                break
            await asyncio.sleep(delay)  # a leader just elected may have to catch up
        raise CorruptLog(
            f"position {after} is beyond the end of the log {self._stream} "
            f"({last}): is it another log than the one read before?"
        )

    async def _info(self) -> dict[str, Any]:
        try:
            return await self._client.api(f"STREAM.INFO.{self._stream}")
        except JetStreamError as error:
            if error.err_code != _NO_STREAM:
                raise
            raise StreamMissing(f"stream {self._stream} does not exist") from error


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else 0
