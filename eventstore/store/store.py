"""The store: append events to the log of one domain, and read them back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime

from eventstore.client.client import Client
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    InvalidId,
    InvalidMessage,
    SubjectForgotten,
    UnknownType,
    UnreadableEvent,
    UnsupportedSchema,
)
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import (
    Identity,
    LogEvent,
    NewEvent,
    RecordedEvent,
    UnreadEvent,
    utc_now,
)
from eventstore.messages.types import Event
from eventstore.store.append import (
    ANY,
    NO_STREAM,
    Append,
    Appended,
    Expected,
    PendingAppend,
)
from eventstore.store.appender import Appender
from eventstore.store.chain_links import GENESIS_LINKS, Link
from eventstore.store.foreign import ForeignMessage, LogFindings
from eventstore.store.head import NOTHING, Head, find_head
from eventstore.store.id_index import IdIndex
from eventstore.store.keyring import Keyring
from eventstore.store.known_heads import KnownHeads
from eventstore.store.reader import AggregateReading, EventReader, Page
from eventstore.telemetry import NO_TELEMETRY, Telemetry

__all__ = ["ANY", "NOTHING", "NO_STREAM", "Append", "Appended", "EventStore", "Expected", "Head"]


class EventStore(Resource):
    """The log of one domain; an async context manager.

    `append_timeout` bounds a whole append with all its retries, `request_timeout` each single
    answer; both are seconds. `clock` gives the time of events that bring none. `keyring` holds the
    keys of personal data, with which events are sealed and opened. `findings` tell which foreign
    messages and unreadable events its readers have come upon.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        clock: Callable[[], datetime] = utc_now,
        append_timeout: float = 15.0,
        request_timeout: float = 5.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.codec = codec
        self._client = client
        self._clock = clock
        self._append_timeout = append_timeout
        self._request_timeout = request_timeout
        self._telemetry = telemetry
        self._direct = DirectReader(client, codec.subjects.log_stream, timeout=request_timeout)
        self._ids = IdIndex(self._direct)
        self._heads = KnownHeads(client, codec.subjects.log_stream)
        self.keyring = Keyring(client, codec.subjects, timeout=request_timeout)
        self.findings = LogFindings(telemetry)
        self._history = EventReader(client, codec, keyring=self.keyring, findings=self.findings)

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._direct)
        await stack.enter_async_context(self._heads)
        stack.push_async_callback(self.keyring.close)

    async def append(
        self,
        aggregate: str,
        aggregate_id: str,
        events: Event | NewEvent | Sequence[Event | NewEvent],
        *,
        expected: Expected = ANY,
        cause: Identity | None = None,
        actor: str | None = None,
        known_new: bool = False,
        authenticated_as: str | None = None,
        command_digest: str | None = None,
    ) -> Appended:
        """Append events to one aggregate, all or none; see `Append` and `append_all`."""
        several = events if isinstance(events, Sequence) else [events]
        (appended,) = await self.append_all(
            Append(
                aggregate=aggregate,
                aggregate_id=aggregate_id,
                events=several,
                expected=expected,
                cause=cause,
                actor=actor,
                known_new=known_new,
                authenticated_as=authenticated_as,
                command_digest=command_digest,
            )
        )
        return appended

    async def append_all(self, *appends: Append) -> list[Appended]:
        """Append to one or several aggregates at once: all events are recorded, or none.

        Sent again with the same event ids, it is recorded once and answered alike, for ever,
        whatever it expects and whoever has appended since. No aggregate ever holds an id twice: an
        append with ids that it holds already, though not all of them as one run of events, is
        refused with `DuplicateId`. Whether an aggregate that the append does not name holds an id
        is known only within the server's duplicate window (2 minutes by default); after that it is
        recorded once more. Ids derived from a `cause` differ between aggregates.

        Ids of the caller's own (in a `NewEvent`, or from a `cause`) cost a look at each aggregate,
        except with `NO_STREAM`: the first one reads all of it, later ones what has been added
        since, as long as the store keeps the aggregate's ids in mind (16 MB in all, 4 bytes each
        and at least 2 KB an aggregate; beyond 65,000 events of one aggregate, more and more of the
        looks read all of it). Ids that the store makes itself cost nothing.

        Raises `Conflict` (nothing recorded), `AppendUnknown` (may or may not be recorded: send
        it again), `EventTooLarge`, `BatchTooLarge` or `SubjectForgotten` (nothing sent),
        `DuplicateId`, `InvalidMessage` for what may not be in the log, and `ClientError` where
        the server could not be asked, or refuses.
        """
        now = self._clock()
        return await self.append_prepared(*(self.prepare(append, now) for append in appends))

    def prepare(self, append: Append, now: datetime | None = None) -> PendingAppend:
        """Encode the events of an append, for `append_prepared`; sends nothing.

        `now` is the time of events that bring none, by default the clock's. Raises `InvalidMessage`
        for what may not be in the log.
        """
        return PendingAppend(append, self.codec, now or self._clock())

    async def append_prepared(self, *writes: PendingAppend) -> list[Appended]:
        """Append what was prepared, each once; promises and raises what `append_all` does."""
        if not writes or len({write.subject for write in writes}) < len(writes):
            raise InvalidMessage("an append names at least one aggregate, and each only once")
        ids = [event_id for write in writes for event_id in write.event_ids]
        if len(set(ids)) < len(ids):
            raise InvalidId(f"append to {writes[0].subject}: an event id repeats")
        recording = Appender(
            self._client,
            self._direct,
            self._ids,
            self._heads,
            writes,
            self._request_timeout,
            self._telemetry,
        )
        try:
            await self._seal(writes)
        except SubjectForgotten:  # since it was recorded, maybe
            if before := await recording.recorded_before(self._append_timeout):
                return before
            raise
        return await recording.run(self._append_timeout)

    async def _seal(self, writes: Sequence[PendingAppend]) -> None:
        subjects = {subject for write in writes for subject in write.data_subjects}
        if subjects:
            keys = await self.keyring.to_seal(subjects)
            for write in writes:
                write.seal(keys)

    async def identity(self) -> str:
        """What tells this log from any other: when its stream was created, and its name.

        It outlives restarts and new leaders. A log that was made anew is another one, and so is
        one restored from a backup: what came after the backup is lost, and its positions will be
        given to other events.

        Raises `StreamMissing`, and a `ClientError` where the server could not be asked.
        """
        return await self._history.identity()

    async def head(
        self,
        aggregate: str,
        aggregate_id: str,
        *,
        leader: bool = False,
        known: Head | None = None,
    ) -> Head:
        """Where an aggregate stands; `NOTHING` if it has no events.

        Without `leader` the answer may lag behind on a replicated stream. `known` is a head that
        it had, which spares a look at what stands at that position.
        """
        self.codec.check_aggregate(aggregate)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        era, known = self._heads.era, known or self._heads.get(subject)
        found = await find_head(self._direct, subject, leader=leader, known=known)
        self._heads.note(subject, found.head, era)
        return found.head

    async def holds(
        self, aggregate: str, aggregate_id: str, head: Head, *, leader: bool = False
    ) -> bool:
        """Whether this is, or once was, the aggregate's head: this event, after the very same ones.

        Without `leader` the newest events may be missed on a replicated stream.
        """
        self.codec.check_aggregate(aggregate)
        message = await self._direct.at(head.position, leader=leader)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        return message is not None and message.subject == subject and head.stands_in(message)

    async def read(
        self,
        aggregate: str,
        aggregate_id: str,
        *,
        after: int | Head = 0,
        leader: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """One aggregate's events, oldest first, after a version or a known head.

        What is handed out is checked: versions without a gap, chain values that follow, types
        known. An event of an older schema may be several, with one version, or none. Foreign
        messages, a changed last event among them, are passed over. Without `leader`, which costs
        another request, it may miss the newest events on a replicated stream.

        Raises `UnreadableEvent`, which names the event, and that or `VersionGap` where events were
        changed or removed upon which later ones were built.
        """
        skip = 0 if isinstance(after, Head) else after
        start = after if isinstance(after, Head) else NOTHING
        reading = self.read_stored(aggregate, aggregate_id, after=start, leader=leader)
        async with aclosing(reading) as stored:
            async for _, events in stored:
                for event in events:
                    if event.version > skip:
                        yield event

    async def read_stored(
        self, aggregate: str, aggregate_id: str, *, after: Head = NOTHING, leader: bool = False
    ) -> AsyncGenerator[tuple[StoredMessage, list[RecordedEvent]], None]:
        """One aggregate's events as stored, oldest first, each with all that it is read as.

        For who must know where the aggregate stands (`Head.of`), though what stands there may be
        read as nothing. Checks and raises as `read` does.
        """
        self.codec.check_aggregate(aggregate)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        start = Link(after.version, after.chain, after.position)
        reading = AggregateReading(self.codec, start, self.findings)
        era, last = self._heads.era, None
        async with aclosing(self._direct.pages(subject, after.position, leader=leader)) as pages:
            async for page in pages:
                keys = await self.keyring.to_open(message.headers for message in page)
                for message in page:
                    found = reading.read(message, keys)
                    if isinstance(found, UnreadEvent) and found.error is not None:
                        position, headers = message.sequence, message.headers
                        raise UnreadableEvent(position, subject, found.error, headers)
                    if found is not None:
                        last = message
                        yield message, found if isinstance(found, list) else []
        if reading.trouble is not None:
            raise reading.trouble
        if last is not None:
            self._heads.note(subject, Head.of(last), era)

    async def read_whole(
        self, aggregate: str, aggregate_id: str, *, leader: bool = False
    ) -> AsyncGenerator[list[RecordedEvent] | UnreadEvent, None]:
        """One aggregate's events as stored, oldest first, each as its parts or without data.

        For who must go on behind one that cannot be read. `leader` is as in `read`. Foreign
        messages are passed over, and so is what was built upon a changed event.
        """
        self.codec.check_aggregate(aggregate)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        reading = AggregateReading(self.codec, GENESIS_LINKS.head, self.findings)
        async with aclosing(self._direct.pages(subject, leader=leader)) as pages:
            async for page in pages:
                keys = await self.keyring.to_open(message.headers for message in page)
                for message in page:
                    found = reading.read(message, keys)
                    if found is not None:
                        yield found

    async def read_all(
        self, *, after: int = 0, live: bool = False, skip_unknown: bool = False
    ) -> AsyncGenerator[RecordedEvent, None]:
        """All events in the order of the log, after a position; see `pages`.

        What its class, or an upcaster, refuses is passed over, logged and noted in `findings`.
        Raises `UnreadableEvent` for what only newer code may know: an unknown type, unless such are
        skipped, or a newer schema. `read_log` hands out either, and goes on.
        """
        read = self.read_log(after=after, live=live, skip_unknown=skip_unknown)
        async with aclosing(read) as events:
            async for event in events:
                if isinstance(event, RecordedEvent):
                    yield event
                elif isinstance(event.error, UnknownType | UnsupportedSchema):
                    subject = self.codec.subjects.log(event.aggregate, event.aggregate_id)
                    raise UnreadableEvent(event.position, subject, event.error, event.headers)

    async def read_log(
        self, *, after: int = 0, live: bool = False, skip_unknown: bool = False
    ) -> AsyncGenerator[LogEvent, None]:
        """All events after a position, what has no data among them; see `pages`."""
        pages = self.pages(after=after, live=live, skip_unknown=skip_unknown, unread=True)
        async with aclosing(pages):
            async for page in pages:
                for event in page.log_events:
                    yield event

    async def read_foreign(self, *, after: int = 0) -> AsyncGenerator[ForeignMessage, None]:
        """The messages after a position that the store did not write; all of the log is read."""
        async with aclosing(self.pages(unread=True)) as pages:
            async for page in pages:
                for message in page.foreign:
                    if message.position > after:
                        yield message

    def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
        unread: bool = False,
        log: str | None = None,
    ) -> AsyncGenerator[Page, None]:
        """All events in the order of the log, in pages; see `EventReader.pages`.

        `log` is the `identity` of the log that `after` is a position of, where that is known.
        """
        return self._history.pages(
            after=after,
            live=live,
            max_events=max_events,
            skip_unknown=skip_unknown,
            unread=unread,
            log=log,
        )
