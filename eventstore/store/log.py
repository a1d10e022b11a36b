"""The log as stored: its messages in order, in pages, not decoded.

Reads with an ephemeral, unfiltered consumer without acknowledgements; when that is lost, the next
one starts after the last message that was yielded, so that none is skipped or repeated. "Caught up"
comes from the servers' pending counts, never from a timeout: the consumer may be on a replica that
lags, so its count is verified with the stream's leader.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator, Sequence

import msgspec

from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import Client, Message
from eventstore.errors import ClientError, CorruptLog, IncompleteBatch, PullLost
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.consumer import Delivery
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.ordered_consumer import OrderedConsumer, ordered_consumer
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.stored_message import StoredMessage, delivered
from eventstore.store.batches import is_followed
from eventstore.store.log_mark import LogMark, check_mark, diverged

_BATCH_SECONDS = 5.0
_MAX_PART = 128
"""Messages of a page: what is made of so many while they are handled stays in the CPU's cache."""
_LAG_SECONDS = 1.0
_LAGS = (0.05, 0.1, 0.2, 0.4, 0.8)


class StoredPage(msgspec.Struct, frozen=True):
    """Some messages in the order of the log, as stored.

    `position` is the last position the page covers, `pending` about how many messages are left
    after it (0: caught up, including all messages that were acknowledged before reading began). A
    page is empty if nothing was left. `has_next`: the next page has arrived already.
    """

    messages: list[StoredMessage]
    position: int
    pending: int
    has_next: bool = False


class StoredLog:
    """Reads a log stream.

    `retry_timeout` is how many seconds a reader that is not live waits for a lost connection,
    consumer or leader of the stream; a live one waits until the client is closed.
    """

    def __init__(self, client: Client, stream: str, *, retry_timeout: float = 30.0) -> None:
        self._client = client
        self._stream = stream
        self._leader = DirectReader(client, stream)
        self._retry_timeout = retry_timeout

    async def pages(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        live: bool = False,
        max_messages: int = 1000,
        log: str | None = None,
        mark: LogMark | None = None,
    ) -> AsyncGenerator[StoredPage, None]:
        """The messages after a position, of which at most `max_messages` are taken at a time.

        All are of one log: the one whose `identity` is `log`, or else the one found at first. And
        all are of one history: that of `mark`, which is up to the position `after`, and of what was
        read last before the connection, or a leader, was lost.

        Without `live` it ends when it has caught up, or with the first complete batch at `until`;
        with it, it waits for more and never ends by itself. At most four times `max_messages` are
        kept. Messages that were acknowledged before it began are included: it waits for a lagging
        replica, or leaves it for another one. Raises `IncompleteBatch` if the log ends in the
        middle of an atomic batch, `LogDiverged` if the log went back, `CorruptLog` if `after` is
        beyond its end or the stream is another log by now, `StreamMissing`, and a `ClientError` if
        the server could not be asked, or a replica lagged, for too long.
        """
        reading = _Reading(after, math.inf if until is None else until, log, mark)
        retry = Retry(self._client, "reading the log", math.inf if live else self._retry_timeout)
        while True:
            try:
                end = await self._end_for(reading)
                async with ordered_consumer(
                    *(self._client, self._stream),
                    after=reading.position,
                    buffer=4 * max_messages,
                    name="history",
                ) as consumer:
                    reading.begin(consumer.pending, end)
                    if reading.left == 0:
                        yield StoredPage([], reading.position, 0)
                    while live or reading.wants_more:
                        at = reading.position  # the last message may have been removed
                        if reading.lags and await self._leader.leader_next(">", at) is None:
                            reading.end_here()
                            yield StoredPage([], reading.position, 0)
                            continue
                        messages = await self._take(consumer, max_messages, reading, live=live)
                        for page in reading.pages(messages):
                            retry.recovered()
                            yield page
                    return
            except ClientError as error:
                await retry.failed(error)

    async def end(self) -> int:
        """The position of the last message; raises `StreamMissing` or a `ClientError`."""
        return (await self.info()).state.last_seq

    async def identity(self) -> str:
        """When the stream was created, and its name; at most 128 characters.

        A log that was restored from a backup may still have the same.
        """
        return self._identity(await self.info())

    def _identity(self, info: StreamInfo) -> str:
        return f"{info.first_created} {self._stream}"[:128]

    async def _take(
        self, consumer: OrderedConsumer, max_messages: int, reading: _Reading, *, live: bool
    ) -> list[tuple[Message, Delivery]]:
        # The server delivers a batch's first messages while it stores the rest.
        unfinished = not live and not reading.left
        bound = min(_BATCH_SECONDS, self._retry_timeout) if unfinished else None
        try:
            async with asyncio.timeout(_LAG_SECONDS if reading.lags else bound):
                return await consumer.take(max_messages)
        except TimeoutError:
            if reading.lags:
                raise PullLost(f"a replica of {self._stream} lags behind its leader") from None
            raise IncompleteBatch(f"the log {self._stream} ends in the middle of a batch") from None

    async def _end_for(self, reading: _Reading) -> int:
        """The end of the log at the leader, which still has what was read.

        Raises `LogDiverged`, and `CorruptLog` if the reader is beyond the end.
        """
        for delay in _LAGS:
            info = await self.info()
            reading.check_log(self._identity(info))
            last = info.state.last_seq
            if reading.position <= last:
                if (mark := reading.mark) is not None:
                    await check_mark(self._client, self._leader, mark)
                return last
            if info.replicas == 1:
                break
            await asyncio.sleep(delay)  # a leader just elected may have to catch up
        if (mark := reading.mark) is not None:
            raise diverged(self._stream, mark, last, "this process")
        raise beyond_end(reading.position, self._stream, last)

    async def info(self) -> StreamInfo:
        """The stream's state and configuration; raises `StreamMissing` or a `ClientError`."""
        return await stream_info(self._client, self._stream)


def beyond_end(position: int, stream: str, last: int) -> CorruptLog:
    """The error of reading after a position that the log does not have."""
    return CorruptLog(
        f"position {position} is beyond the end of the log {stream} ({last}): is it another log "
        "than the one read before?"
    )


class _Reading:
    """The progress of a reader."""

    def __init__(self, position: int, until: float, log: str | None, mark: LogMark | None) -> None:
        self.position = position
        self._mark = mark
        self._last: StoredMessage | None = None
        self._pending = 0
        self._end = 0
        self._log = log
        self._until = until
        self._ended = position >= until
        self._inside_batch = False

    def check_log(self, found: str) -> None:
        """Raise `CorruptLog` if the log is not the one that was read before."""
        if self._log is None:
            self._log = found
        if self._log != found:
            raise CorruptLog(
                f"the log was replaced: position {self.position} is one of {self._log}, and now "
                f"there is {found}, recreated or restored from a backup. Reading stops; rebuild "
                "what was built from the old one"
            )

    @property
    def mark(self) -> LogMark | None:
        """What the log had at the last position that is known to this reader."""
        return self._mark if self._last is None else LogMark.of(self._last)

    def begin(self, pending: int, end: int) -> None:
        self._pending = pending
        self._end = end

    def end_here(self) -> None:
        self._end = self.position

    @property
    def lags(self) -> bool:
        """Whether the consumer has no more, and the leader may have."""
        return not self._pending and self.position < self._end

    @property
    def left(self) -> int:
        """About how many messages are left; 0 only if the leader had no more either."""
        return self._pending or max(0, self._end - self.position)

    @property
    def wants_more(self) -> bool:
        """Whether there is more before the end, or the last message's batch is incomplete."""
        return not self._ended and bool(self.left or self._inside_batch)

    def pages(self, messages: Sequence[tuple[Message, Delivery]]) -> Iterator[StoredPage]:
        """The messages that are still wanted, in pages that are not empty."""
        for start in range(0, len(messages), _MAX_PART):
            end = start + _MAX_PART
            page = self._page(messages[start:end], has_next=end < len(messages))
            if page.messages:
                yield page

    def _page(self, messages: Sequence[tuple[Message, Delivery]], *, has_next: bool) -> StoredPage:
        stored: list[StoredMessage] = []
        for message, delivery in messages:
            if delivery.sequence > self._until and not self._is_inside_batch(stored):
                self._ended = True
                break
            stored.append(delivered(message, delivery.sequence, delivery.time))
            self.position, self._pending = delivery.sequence, delivery.pending
        if stored:
            self._last = stored[-1]
        self._inside_batch = self._is_inside_batch(stored)
        self._ended |= self.position >= self._until and not self._inside_batch
        return StoredPage(stored, self.position, self.left, has_next and not self._ended)

    def _is_inside_batch(self, stored: Sequence[StoredMessage]) -> bool:
        """Whether more of the last message's batch must follow, after a page's beginning."""
        return is_followed(stored[-1].headers) if stored else self._inside_batch
