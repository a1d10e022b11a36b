"""The whole log in order: from a position, in pages, and then live where that is wanted.

An ephemeral, unfiltered consumer without acknowledgements feeds it; when that consumer is lost,
the next one starts after the last event that was handed out, so nothing is skipped and nothing
repeated. "Caught up" comes from the server's count of what is left, never from a timeout.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.codec import Codec
from eventstore.envelope import RecordedEvent, new_id
from eventstore.errors import (
    CorruptLog,
    EventStoreError,
    IncompleteBatch,
    InvalidMessage,
    UnknownType,
    UnreadableEvent,
)
from eventstore.pull import Delivery, Pull, PullLost

__all__ = ["BatchCheck", "History", "Page", "read_event"]


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

    def see(self, headers: dict[str, str], position: int) -> None:
        """Take note of the next message; raises `IncompleteBatch`."""
        batch = headers.get("Nats-Batch-Id")
        sequence = int(headers.get("Nats-Batch-Sequence", "0"))
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


class History:
    """A reader of the whole log stream."""

    def __init__(self, client: Client, codec: Codec) -> None:
        self._client = client
        self._codec = codec
        self._stream = codec.subjects.log_stream

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
        by itself. Memory is bounded by four pages. Raises `UnreadableEvent`, `IncompleteBatch`,
        or `CorruptLog` where `after` lies beyond the end of the log.
        """
        await self._check_start(after)
        position, first = after, True
        while True:
            try:
                async with self._consumer(position, 4 * max_events) as (pull, pending):
                    if pending == 0 and first:
                        yield Page([], position, 0)
                        if not live:
                            return
                    first = False
                    check = BatchCheck()
                    while True:
                        messages = await pull.take(max_events)
                        page = self._page(messages, check, skip_unknown)
                        position = page.position
                        yield page
                        if page.pending == 0 and not live:
                            return
            except PullLost:
                continue

    async def _check_start(self, after: int) -> None:
        state = (await self._client.api(f"STREAM.INFO.{self._stream}"))["state"]
        if after > state["last_seq"]:
            raise CorruptLog(
                f"position {after} is beyond the end of the log {self._stream} "
                f"({state['last_seq']}): is it another log than the one read before?"
            )

    @contextlib.asynccontextmanager
    async def _consumer(self, after: int, buffer: int) -> AsyncIterator[tuple[Pull, int]]:
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
        try:
            async with Pull(self._client, self._stream, name, buffer=buffer) as pull:
                yield pull, answer["num_pending"]
        finally:
            with contextlib.suppress(EventStoreError):  # it goes by itself when unused
                await self._client.api(f"CONSUMER.DELETE.{self._stream}.{name}", timeout=1.0)

    def _page(self, messages: list[Msg], check: BatchCheck, skip_unknown: bool) -> Page:
        events = []
        for message in messages:
            headers = message.headers or {}
            delivery = Delivery.of(message)
            check.see(headers, delivery.sequence)
            event = read_event(
                self._codec,
                message.subject,
                headers,
                message.data,
                delivery.sequence,
                skip_unknown=skip_unknown,
            )
            if event is not None:
                events.append(event)
        return Page(events, delivery.sequence, delivery.pending)
