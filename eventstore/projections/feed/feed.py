"""The feed: publishes every event of the log on `{domain}.event.{aggregate}.{action}`.

Each event is stored in the event stream exactly once and in the order of the log, whichever feed is
killed and however many run concurrently. A publish expects the last sequence of the event stream,
and is stored completely or not at all: one message by itself, several as one atomic batch. So even
if the acknowledgement is lost, the end of the stream shows what to publish next.

A plain subscriber, which reads no stream, also receives messages that the stream refuses. So that
it receives each event once, too, only the feed that holds the lease (`lease`) publishes, after it
has found its position. It may still receive an event twice: if a publish got no clear answer (the
feed was killed, a connection or a leader was lost), and for a batch that was not stored, all of it;
if a message of somebody else was stored first; and if a feed was suspended for longer than half a
lease between reading its lease and publishing. Readers of the stream see none of this.
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
from eventstore.jetstream.waiting import waiting_seconds
from eventstore.messages.encryption import Keys
from eventstore.messages.events import LogEvent, RecordedEvent
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.feed.findings import FeedFindings
from eventstore.projections.feed.lease import FeedLease
from eventstore.projections.feed.position import FeedPoint, FeedPosition
from eventstore.store.foreign import LogFindings
from eventstore.store.reader import Page
from eventstore.store.store import EventStore
from eventstore.subscribers.cloudevents import as_cloud_event
from eventstore.subscribers.publication import data_subjects, publication, stored_publication
from eventstore.telemetry import NO_TELEMETRY, Telemetry

# A batch costs the server as much as thirty single messages; fewer are faster one by one.
_MIN_BATCH = 32

_FEWER = 4

_OVERTAKEN = CONFLICTS | {ErrorCode.DUPLICATE_IN_BATCH}

_NEWER = (UnknownType, UnsupportedSchema)

_SAVE_INTERVAL = 1.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class Feed:
    """Follows the log and publishes what the event stream does not have yet; runs once.

    `batch` (1 to 1,000) is how many events are published together at most. `standby` is how many
    seconds a feed waits, if another one holds the lease, before it checks that one's progress, and
    for how long the lease is valid: it takes over from one that was stopped within that time, and
    from one that was killed within twice that time, counted from the next event. With
    `skip_unknown`, events of types that the code does not know are not published. `timeout` is
    seconds for each answer.

    `ready` is set when the feed has found its position and follows the log; `published` counts the
    events that it has stored itself, and `pending` is how many are left in the log.
    `on_page` is called after each page of the log that is published.

    An event that cannot be read is published as it is stored, for its subscribers to park; it is
    left out, and logged by the store, if its subject is unknown. One of a type or schema version
    that only newer code knows stops the feed: that code will publish it. Foreign messages are not
    published. An event that is too large for the event stream, or that cannot be encoded for it, is
    left out and noted in the store's findings; `findings` are messages in the event stream that did
    not come from the log.
    """

    def __init__(
        self,
        client: Client,
        store: EventStore,
        *,
        batch: int = 1000,
        standby: float = 1.0,
        skip_unknown: bool = False,
        cloudevents: bool = False,
        timeout: float = 5.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._telemetry = telemetry
        self.ready = asyncio.Event()
        self.published = 0
        self.pending: int | None = None
        self.on_page: Callable[[], None] = lambda: None
        self.findings = LogFindings()
        self._client = client
        self._store = store
        subjects = store.codec.subjects
        self._position = FeedPosition(client, subjects, self.findings, timeout=timeout)
        self._lease = FeedLease(client, subjects, seconds=standby, timeout=timeout)
        self._stream = subjects.event_stream
        self._findings = FeedFindings(client, subjects, store.findings, timeout=timeout)
        self._log = ""
        self._batch = batch
        self._standby = standby
        self._skip_unknown = skip_unknown
        self._cloudevents = cloudevents
        self._timeout = timeout
        self._point: FeedPoint | None = None
        self._moved = asyncio.Event()
        self._publishes = False  # it held the lease when it found its position
        self._sending = asyncio.Lock()
        self._max_batch = batch
        self._retry = Retry(client, "the feed", passes=_passes)
        self._waiting_since: float | None = None
        self._stopping = asyncio.Event()

    @property
    def position(self) -> int:
        """The log position up to which everything is known to be published, by any feed."""
        return self._point.position if self._point is not None else 0

    @property
    def waited(self) -> float:
        """For how many seconds events have been pending and no feed has published any."""
        since = self._waiting_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def report_lag(self) -> None:
        """Report the age of the oldest event that is not published, if the server says it."""
        age = 0.0
        if self.pending:
            log = self._store.codec.subjects.log_stream
            try:
                age = await waiting_seconds(self._client, log, ">", self.position)
            except ClientError:
                return
        self._telemetry.gauge("feed_lag_seconds", round(age, 3))

    def stop(self) -> None:
        """Have `run` end; whether a publish under way was stored, the next run finds out."""
        self._stopping.set()

    async def run(self) -> None:
        """Publish until `stop`; lost connections, restarts and other feeds are waited for.

        Raises `FeedLost` if it is unknown what has been published, what the store raises for a log
        that cannot be read (`UnreadableEvent` for an unknown type), `StreamMissing`, and a
        `ClientError` that a retry cannot help.
        """
        parts = (self._follow(), self._save_regularly(), self._stopping.wait())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            answered = await self._is_answered()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._save()
        if answered:
            with contextlib.suppress(ClientError):  # then another feed waits for longer
                await self._lease.release()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _follow(self) -> None:
        await self._find()
        self._log = await self._retry.run(self._store.identity)
        await self._findings.restore(self._log)
        pages = self._store.pages(
            after=self.position,
            live=True,
            max_events=self._batch,
            skip_unknown=self._skip_unknown,
            unread=True,
            log=self._log,
            shared=True,
        )
        async with contextlib.aclosing(pages):
            async for page in pages:
                self.ready.set()
                await self._publish_page(page)
                self._retry.recovered()
                self.pending = page.pending
                self._telemetry.gauge("feed_lag", page.pending)
                self.on_page()

    async def _publish_page(self, page: Page) -> None:
        """Publish what can be read; raises `UnreadableEvent` for what only newer code can read."""
        if page.foreign:
            await self._findings.save(self._log)
        newer = next((each for each in page.unread if isinstance(each.error, _NEWER)), None)
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

    def _is_publishable(self, event: LogEvent) -> bool:
        if isinstance(event, RecordedEvent):
            return not isinstance(event.data, OpaqueEvent)
        return event.error is not None and stored_publication(event, self._store.codec) is not None

    async def _publish_all(self, events: Sequence[LogEvent]) -> None:
        """Return when all of them are in the event stream, by this feed or by another."""
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
        count = min(len(events), self._max_batch)
        sent = _complete(events, count if count >= _MIN_BATCH else 1)
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
            await self._find_end(overtaken=_code(error) in _OVERTAKEN)
            return
        if ack.duplicate:  # of an id that the stream has not forgotten yet
            await self._retry.pause()
            await self._find_end(overtaken=True)
            return
        self._move(FeedPoint(ack.seq, sent[-1].position))
        self.published += len(messages)
        self._telemetry.count("events_published", len(messages), stream=self._stream)
        self._max_batch = min(2 * self._max_batch, self._batch)
        self._retry.recovered()

    async def _prepared(
        self, events: Sequence[LogEvent]
    ) -> tuple[Sequence[LogEvent], Sequence[Draft]]:
        """The next messages, with their events: all, or the first if one cannot be published.

        There is no message if the first cannot: then it is left out.
        """
        assert self._point is not None  # noqa: S101  # found before anything is read
        try:
            return events, await self._messages(events, self._point.sequence)
        except (EventTooLarge, BatchTooLarge, InvalidPayload) as error:
            event, first = events[0], _complete(events, 1)
            if len(first) < len(events):  # by itself it may be small enough
                return await self._prepared(first)
            subject = self._store.codec.subjects.log(event.aggregate, event.aggregate_id)
            self._store.findings.note("unpublished", event.position, subject, str(error))
            await self._findings.save(self._log)
            self._move(FeedPoint(self._point.sequence, event.position))
            return first, ()

    async def _messages(self, events: Sequence[LogEvent], after: int) -> list[Draft]:
        read = [each for each in events if isinstance(each, RecordedEvent)]
        keys = await self._store.keyring.to_seal(data_subjects(read, self._store.codec))
        drafts = guarded([self._draft(event, keys) for event in events], {})
        drafts[0] = drafts[0].plus(f"{NatsHeader.EXPECTED_LAST_SEQUENCE}: {after}\r\n")
        check_sizes(drafts, self._client.max_payload)
        return drafts

    def _draft(self, event: LogEvent, keys: Keys) -> Draft:
        if isinstance(event, RecordedEvent):
            draft = publication(event, self._store.codec, keys)
        else:
            stored = stored_publication(event, self._store.codec)
            assert stored is not None  # noqa: S101  # others are left out
            draft = stored
        return as_cloud_event(draft, self._client.max_payload) if self._cloudevents else draft

    async def _find_end(self, *, overtaken: bool) -> None:
        """Find the end of the stream; `overtaken` if somebody else has written to it."""
        if overtaken:
            # Fewer are more likely to succeed while somebody else writes to the stream.
            self._max_batch = max(1, self._max_batch // _FEWER)
            self._lease.doubt()
        await self._find()

    async def _stand_by(self) -> None:
        """Wait while the feed that holds the lease makes progress; take over if it does not."""
        self._publishes = await self._lease.held()
        before = self.position
        if not self._publishes:
            await asyncio.sleep(self._standby)
        await self._find()  # only now is it certain what is left to publish
        if self._publishes:
            _logger.info("feed: publishes from position %d on", self.position)
        elif self.position == before:
            await self._lease.take_over()

    async def _is_answered(self) -> bool:
        """Whether a publish under way is answered in time, so that the lease may be released."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._standby):
                return await self._sending.acquire()
        return False

    async def _find(self) -> None:
        while True:
            try:
                self._move(await self._position.find(self._point))
            except ClientError as error:
                await self._retry.failed(error)
            else:
                return

    def _move(self, point: FeedPoint) -> None:
        self._point = point
        self._moved.set()

    async def _save_regularly(self) -> None:
        """Save the position regularly, in case the stream is empty one day."""
        while True:
            await self._moved.wait()
            await self._save()
            await asyncio.sleep(_SAVE_INTERVAL)

    async def _save(self) -> None:
        if self._point is not None and self._moved.is_set():
            self._moved.clear()
            with contextlib.suppress(ClientError):  # the next one is saved
                await self._position.save(self._point)


def _complete(events: Sequence[LogEvent], maximum: int) -> Sequence[LogEvent]:
    """The first events, up to a maximum but at least one, with all parts of each."""
    end = min(maximum, len(events))
    while 0 < end < len(events) and _part(events[end]):
        end -= 1
    if end == 0:
        end = next((at for at, each in enumerate(events) if at and not _part(each)), len(events))
    return events[:end]


def _part(event: LogEvent) -> int:
    return event.part if isinstance(event, RecordedEvent) else 0


def _code(error: ClientError) -> int:
    return error.err_code if isinstance(error, JetStreamError) else 0


def _passes(error: ClientError) -> bool:
    """Whether the same may succeed later without anything being changed."""
    if isinstance(error, JetStreamError):
        return error.err_code in TRANSIENT
    return isinstance(error, RequestTimeout | ConnectionLost | NoResponders)
