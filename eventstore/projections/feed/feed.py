"""The feed: publishes every event of the log on `{domain}.event.{aggregate}.{action}`.

Each event is stored in the event stream exactly once and in the order of the log, whoever is killed
and however many feeds run at once. What is sent together names the sequence at which the event
stream must end, and is stored as a whole there or not at all: one message by itself, several as one
atomic batch. So whatever becomes of an answer, the end of the stream tells what to send next.

A plain subscriber, who reads no stream, also hears what the stream refuses. So that it hears each
event once too, only the feed that holds the lease (`feed_lease`) publishes, after it has found its
place. What remains possible: an event whose sending got no clear answer (the feed was killed, a
connection or a leader was lost) is heard again when it is sent again, a whole batch where it had
not been stored; so is what somebody else's message in the event stream came before, and what a
feed sends that was suspended for longer than half a lease between reading its lease and sending.
Readers of the stream see none of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from eventstore.client.client import Client
from eventstore.errors import (
    BatchTooLarge,
    ClientError,
    ConnectionLost,
    EventTooLarge,
    InvalidPayload,
    JetStreamError,
    NoResponders,
    RequestTimeout,
    UnknownType,
    UnreadableEvent,
    UnsupportedSchema,
)
from eventstore.jetstream.publish import Draft, check_sizes, guarded, publish
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.vocabulary import CONFLICTS, TRANSIENT, ErrorCode, NatsHeader
from eventstore.messages.encryption import Keys
from eventstore.messages.events import LogEvent, RecordedEvent, UnreadEvent
from eventstore.projections.feed.findings import FeedFindings
from eventstore.projections.feed.lease import FeedLease
from eventstore.projections.feed.position import FeedPoint, FeedPosition
from eventstore.store.foreign import LogFindings
from eventstore.store.reader import Page
from eventstore.store.store import EventStore
from eventstore.subscribers.publication import data_subjects, publication, stored_publication
from eventstore.text import make_log_records_safe

__all__ = ["Feed"]

# A batch costs the server as much as thirty single messages, and a round trip for each of fewer
# is soon over.
_SMALLEST_BATCH = 32

_OVERTAKEN = CONFLICTS | {ErrorCode.DUPLICATE_IN_BATCH}

_KEEP_SECONDS = 1.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class Feed:
    """Follows the log and publishes what the event stream does not have yet; runs once.

    `batch` (1 to 1,000) is the most events sent together. `standby` is how many seconds a feed
    that finds another one at work waits before it looks whether that one still is, and for how
    long the lease is relied on: it takes over from one that was stopped within that time, from one
    that was killed within twice that time, counted from the next event. With `skip_unknown`,
    events of types that the code does not know are not published. `timeout` is seconds for each
    answer.

    `ready` is set when the feed stands where it is to go on and follows the log; `published`
    counts the events it has stored itself, and `pending` is how many are left in the log.
    `on_page` is called after each page of the log that is published.

    An event that cannot be read is published as it is stored, for its subscribers to park; it is
    left out, and logged by the store, where it is not known on which subject it belongs. One of a
    type or schema version that only newer code knows is waited for: that code will publish it.
    Foreign messages are no events and are not published. An event that is too large for the event
    stream, or that has no form to be published in, is left out and noted in the store's findings;
    `findings` are messages in the event stream that did not come from the log.
    """

    def __init__(
        self,
        client: Client,
        store: EventStore,
        *,
        batch: int = 1000,
        standby: float = 1.0,
        skip_unknown: bool = False,
        timeout: float = 5.0,
    ) -> None:
        self.ready = asyncio.Event()
        self.published = 0
        self.pending: int | None = None
        self.on_page: Callable[[], None] = lambda: None
        self.findings = LogFindings()
        self._client = client
        self._store = store
        subjects = store.codec.subjects
        self._checkpoint = FeedPosition(client, subjects, self.findings, timeout=timeout)
        self._lease = FeedLease(client, subjects, seconds=standby, timeout=timeout)
        self._stream = subjects.event_stream
        self._findings = FeedFindings(client, subjects, store.findings, timeout=timeout)
        self._log = ""
        self._batch = batch
        self._standby = standby
        self._skip_unknown = skip_unknown
        self._timeout = timeout
        self._place: FeedPoint | None = None
        self._moved = asyncio.Event()
        self._publishes = False  # it held the lease when it found its place
        self._sending = asyncio.Lock()
        self._most = batch
        self._retry = Retry(client, "the feed", passes=_passes)
        self._waiting_since: float | None = None
        self._stopping = asyncio.Event()

    @property
    def position(self) -> int:
        """The log position up to which everything is known to be published, by whichever feed."""
        return self._place.position if self._place is not None else 0

    @property
    def waited(self) -> float:
        """For how many seconds there have been events to publish and none was, by any feed."""
        since = self._waiting_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    def stop(self) -> None:
        """Let `run` end; what is on its way is stored or not, and the next run will see."""
        self._stopping.set()

    async def run(self) -> None:
        """Publish until `stop`; lost connections, restarts and other feeds are waited out.

        Raises `FeedLost` where it cannot be told what has been published, what the store raises
        for a log that cannot be read (`UnreadableEvent` for an unknown type), `StreamMissing`, and
        a `ClientError` where the server refuses for good.
        """
        parts = (self._follow(), self._keep_place(), self._stopping.wait())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            answered = await self._answered()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._keep()
        if answered:
            with contextlib.suppress(ClientError):  # another feed waits for longer then
                await self._lease.release()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _follow(self) -> None:
        await self._find()
        await self._recall()
        pages = self._store.pages(
            after=self.position,
            live=True,
            max_events=self._batch,
            skip_unknown=self._skip_unknown,
            unread=True,
        )
        async with contextlib.aclosing(pages):
            async for page in pages:
                self.ready.set()
                await self._publish_page(page)
                self._retry.recovered()
                self.pending = page.pending
                self.on_page()

    async def _recall(self) -> None:
        """Have known what was found in this log before."""
        self._log = await self._retry.run(self._store.identity)
        await self._findings.restore(self._log)

    async def _publish_page(self, page: Page) -> None:
        """Publish what can be; raises `UnreadableEvent` for what only newer code can read."""
        if page.foreign:
            await self._findings.keep(self._log)
        if not page.unread:
            return await self._publish_all(page.events)
        newer = next((each for each in page.unread if _is_newer(each)), None)
        await self._publish_all(
            [
                each
                for each in page.log_events
                if (newer is None or each.position < newer.position) and self._is_publishable(each)
            ]
        )
        if newer is not None and newer.error is not None and newer.position > self.position:
            subject = self._store.codec.subjects.log(newer.aggregate, newer.aggregate_id)
            raise UnreadableEvent(newer.position, subject, newer.error, newer.headers)
        return None

    def _is_publishable(self, event: LogEvent) -> bool:
        if isinstance(event, RecordedEvent):
            return True
        return event.error is not None and stored_publication(event, self._store.codec) is not None

    async def _publish_all(self, events: Sequence[LogEvent]) -> None:
        """Return when the event stream has all of them, by this feed or by another."""
        before = -1
        while rest := [event for event in events if event.position > self.position]:
            if self.position != before:
                before = self.position
                self._waiting_since = asyncio.get_running_loop().time()
            try:
                if self._publishes:
                    await self._publish_some(rest)
                else:
                    await self._stand_by()
            except ClientError as error:
                await self._retry.failed(error)
        self._waiting_since = None

    async def _publish_some(self, events: Sequence[LogEvent]) -> None:
        count = min(len(events), self._most)
        sent = _whole(events, count if count >= _SMALLEST_BATCH else 1)
        try:
            sent, messages = await self._prepared(sent)
            self._publishes = await self._lease.held()
            if not (self._publishes and messages):
                return
            async with self._sending:
                ack = await publish(self._client, messages, self._timeout, self._stream)
        except ClientError as error:
            if _code(error) not in _OVERTAKEN:
                await self._retry.failed(error)
            await self._look(overtaken=_code(error) in _OVERTAKEN)
            return
        if ack.duplicate:  # of an id that the stream has not forgotten yet
            await self._retry.pause()
            await self._look(overtaken=True)
            return
        self._move(FeedPoint(ack.seq, sent[-1].position))
        self.published += len(messages)
        self._most = min(2 * self._most, self._batch)
        self._retry.recovered()

    async def _prepared(
        self, events: Sequence[LogEvent]
    ) -> tuple[Sequence[LogEvent], Sequence[Draft]]:
        """The next messages, with their events: all, or the first where one cannot be published.

        There is no message where the first cannot: then it is left out.
        """
        assert self._place is not None  # noqa: S101  # found before anything is read
        try:
            return events, await self._messages(events, self._place.sequence)
        except (EventTooLarge, BatchTooLarge, InvalidPayload) as error:
            event, first = events[0], _whole(events, 1)
            if len(first) < len(events):  # by itself it needs less
                return await self._prepared(first)
            subject = self._store.codec.subjects.log(event.aggregate, event.aggregate_id)
            self._store.findings.note("unpublished", event.position, subject, str(error))
            await self._findings.keep(self._log)
            self._move(FeedPoint(self._place.sequence, event.position))
            return first, ()

    async def _messages(self, events: Sequence[LogEvent], after: int) -> list[Draft]:
        read = [each for each in events if isinstance(each, RecordedEvent)]
        keys = await self._store.keyring.to_seal(data_subjects(read, self._store.codec))
        drafts = guarded([self._draft(event, keys) for event in events], {})
        drafts[0].headers[NatsHeader.EXPECTED_LAST_SEQUENCE] = str(after)
        check_sizes(drafts, self._client.max_payload)
        return drafts

    def _draft(self, event: LogEvent, keys: Keys) -> Draft:
        if isinstance(event, RecordedEvent):
            return publication(event, self._store.codec, keys)
        draft = stored_publication(event, self._store.codec)
        assert draft is not None  # noqa: S101  # others are left out
        return draft

    async def _look(self, *, overtaken: bool) -> None:
        """See where the stream ends now, and whether somebody else has brought it there."""
        if overtaken:
            self._most = 1  # for the chance of it, while somebody else writes to the stream
            self._lease.doubt()
        await self._find()

    async def _stand_by(self) -> None:
        """Leave it to the feed that holds the lease while that one gets on."""
        self._publishes = await self._lease.held()
        before = self.position
        if not self._publishes:
            await asyncio.sleep(self._standby)
        await self._find()  # only now may be said what is left to publish
        if self._publishes:
            _logger.info("feed: publishes from position %d on", self.position)
        elif self.position == before:
            await self._lease.take_over()

    async def _answered(self) -> bool:
        """Whether what is being sent is answered in time, so that another feed need not guess."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._standby):
                return await self._sending.acquire()
        return False

    async def _find(self) -> None:
        while True:
            try:
                self._move(await self._checkpoint.find(self._place))
            except ClientError as error:
                await self._retry.failed(error)
            else:
                return

    def _move(self, place: FeedPoint) -> None:
        self._place = place
        self._moved.set()

    async def _keep_place(self) -> None:
        """Keep the place now and then, for the day on which the stream is empty."""
        while True:
            await self._moved.wait()
            await self._keep()
            await asyncio.sleep(_KEEP_SECONDS)

    async def _keep(self) -> None:
        if self._place is not None and self._moved.is_set():
            self._moved.clear()
            with contextlib.suppress(ClientError):  # the next one will do
                await self._checkpoint.keep(self._place)


def _whole(events: Sequence[LogEvent], most: int) -> Sequence[LogEvent]:
    """The first events, at most so many but at least one, with all parts of each."""
    end = min(most, len(events))
    while 0 < end < len(events) and _part(events[end]):
        end -= 1
    if end == 0:
        end = next((at for at, each in enumerate(events) if at and not _part(each)), len(events))
    return events[:end]


def _part(event: LogEvent) -> int:
    return event.part if isinstance(event, RecordedEvent) else 0


def _is_newer(event: UnreadEvent) -> bool:
    """Whether it is of a type or schema version that this code does not know."""
    return isinstance(event.error, UnknownType | UnsupportedSchema)


def _code(error: ClientError) -> int:
    return error.err_code if isinstance(error, JetStreamError) else 0


def _passes(error: ClientError) -> bool:
    """Whether the same may succeed later without anything being changed."""
    if isinstance(error, JetStreamError):
        return error.err_code in TRANSIENT
    return isinstance(error, RequestTimeout | ConnectionLost | NoResponders)
