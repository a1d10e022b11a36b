"""The store: append events to the log of one domain, and read them back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from eventstore.client.client import Client
from eventstore.concurrency.batching import own_task
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ClientError,
    InvalidId,
    InvalidMessage,
    SubjectForgotten,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import PubAck
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, checked_clock, utc_now
from eventstore.messages.events import NewEvent
from eventstore.messages.subjects import AggregateId
from eventstore.messages.types import Event
from eventstore.store.aggregate_reads import AggregateReads
from eventstore.store.append import ANY, Append, AppendResult, Expected
from eventstore.store.appender import Appender
from eventstore.store.foreign import LogFindings
from eventstore.store.high_water_mark import HighWaterMark
from eventstore.store.id_index import IdIndex
from eventstore.store.keyring import Keyring
from eventstore.store.known_heads import HEAD_BYTES, KnownHeads
from eventstore.store.linked_reading import LinkedReading
from eventstore.store.log import StoredLog
from eventstore.store.log_range import LogRange
from eventstore.store.log_reads import LogReads
from eventstore.store.log_writer import LogWriter
from eventstore.store.pending_append import PendingAppend
from eventstore.store.reader import EventReader
from eventstore.telemetry import NO_TELEMETRY, Telemetry

CACHE_BYTES = 64 << 20
"""What a store may remember of aggregates, unless there is another limit."""


class EventStore(AggregateReads, LogReads, Resource):
    """The log of one domain; an async context manager.

    If it is `guarded`, nothing is appended after the log went back under it: `LogDiverged` is
    raised instead, or `LogMissing` if the log was deleted, until another store is opened.

    `append_timeout` bounds a whole append with all its retries, `request_timeout` each single
    answer of the log; both are seconds. `clock` gives the time of events that have none.
    `cache_bytes` bounds what the heads and the event ids of the aggregates used last take in
    memory; the heads for reading all of the log take half as much at most. `keyring` has the keys
    that encrypt and decrypt personal data. `findings` are the foreign messages and unreadable
    events that its readers have found, and `high_water` is what it has seen of the log last.
    `pages` reads all of the log, in pages of events: see `EventReader.pages`.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        clock: Callable[[], datetime] = utc_now,
        append_timeout: float = 15.0,
        request_timeout: float = 5.0,
        guarded: bool = False,
        cache_bytes: int = CACHE_BYTES,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.codec = codec
        self._client = client
        self._clock = checked_clock(clock)
        self._append_timeout = append_timeout
        client.protect(codec.domain)
        self._request_timeout = request_timeout
        self._telemetry = telemetry
        self._direct = DirectReader(client, codec.subjects.log_stream, timeout=request_timeout)
        self._linked = LinkedReading(self._direct)
        self._ids = IdIndex(self._linked, max_bytes=cache_bytes // 4)
        self.high_water = HighWaterMark(
            client, codec.subjects.log_stream, is_guard=guarded, timeout=request_timeout
        )
        max_heads = cache_bytes // 2 // HEAD_BYTES
        self._heads = KnownHeads(client, codec.subjects.log_stream, self.high_water, max_heads)
        self._log = LogWriter(client, codec.subjects.log_stream, self._ids, self._heads)
        self.keyring = Keyring(client, codec.subjects)
        self.findings = LogFindings(telemetry)
        self._reader = EventReader(
            client,
            codec,
            keyring=self.keyring,
            findings=self.findings,
            high_water=self.high_water,
            max_heads=max_heads,
        )
        self.pages = self._reader.pages
        log = StoredLog(client, codec.subjects.log_stream)
        self._range = LogRange(self._direct, log, codec, self.keyring, self.findings)

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._heads)
        stack.push_async_callback(self.keyring.close)

    async def append(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        events: Event | NewEvent | Sequence[Event | NewEvent],
        *,
        expected: Expected = ANY,
        cause: Identity | None = None,
        actor: str | None = None,
    ) -> AppendResult:
        """Append events to one aggregate, all or none; see `Append` and `append_all`."""
        append = Append(
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            events=events if isinstance(events, Sequence) else [events],
            expected=expected,
            cause=cause,
            actor=actor,
        )
        (appended,) = await self.append_prepared(PendingAppend(append, self.codec, self._clock()))
        return appended

    async def append_all(self, *appends: Append) -> list[AppendResult]:
        """Append to one or several aggregates atomically: all events are recorded, or none.

        It is idempotent, for ever: repeated with the same event ids, it is recorded once and
        returns the same result, regardless of its expectations and of later events. No aggregate
        ever has an id twice: an append with ids that it has already, though not all of them as one
        run of events, is refused with `DuplicateId`. Ids in aggregates that the append does not
        name are found only within the server's duplicate window (2 minutes by default); after that
        such an event is recorded once more. Ids derived from a `cause` differ between aggregates.

        Ids of the caller's own (in a `NewEvent`, or from a `cause`) cost a search in each
        aggregate, except with `NO_STREAM`: the first one reads all of it, later ones only newer
        events, as long as the store remembers the aggregate's ids (16 MB in all, 4 bytes each and
        at least 2 KB an aggregate; beyond 65,000 events of one aggregate, a growing share of the
        searches reads all of it). Ids that the store makes itself cost nothing.

        Raises `Conflict` (nothing recorded), `AppendUnknown` (may or may not be recorded: repeat
        it), `EventTooLarge`, `BatchTooLarge` or `SubjectForgotten` (nothing sent), `DuplicateId`,
        `InvalidMessage` for events that may not be in the log, and `ClientError` if the server
        could not be asked, or refuses.
        """
        now = self._clock()
        return await self.append_prepared(*(self.prepare(append, now) for append in appends))

    def prepare(
        self, append: Append, now: datetime | None = None, *, is_checked: bool = False
    ) -> PendingAppend:
        """Encode the events of an append for `append_prepared`; sends nothing.

        `now` is the time of events that have none, by default the clock's; `is_checked`: the ids
        and all else that the append has for their envelopes come from one that was decoded. Raises
        `InvalidMessage` for events that may not be in the log.
        """
        return PendingAppend(append, self.codec, now or self._clock(), is_checked=is_checked)

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        """Append what was prepared, once; guarantees and raises what `append_all` does."""
        if len(writes) != 1:
            _check_together(writes)
        if personal := [write for write in writes if write.has_personal]:
            try:
                await self._seal(personal)
            except SubjectForgotten:  # perhaps after it was recorded
                if before := await self._appender(writes).recorded_before(self._append_timeout):
                    return before
                raise
        began, tried = time.monotonic(), None
        if self.high_water.is_verified and self._log.begin(writes):
            timeout = min(self._request_timeout, self._append_timeout)
            tried = await self._log.attempt(writes, timeout)
            if tried is None:
                return [write.result for write in writes if write.result]
        appender = self._appender(writes, tried)
        return await appender.run(self._append_timeout, began)

    async def verify_history(self) -> None:
        """Return if the log still has what this guarded store has seen of it.

        It is asked only after the connection was lost: see `high_water.is_verified`. Raises
        `LogDiverged` if the log went back, `LogMissing`, and `ClientError` if the server could not
        be asked.
        """
        await own_task()
        await self.high_water.verify()

    def _appender(
        self, writes: Sequence[PendingAppend], tried: ClientError | PubAck | None = None
    ) -> Appender:
        return Appender(
            self._client,
            self._direct,
            self._ids,
            self._heads,
            writes,
            self._request_timeout,
            self._telemetry,
            self._log,
            self.high_water,
            tried,
        )

    async def _seal(self, writes: Sequence[PendingAppend]) -> None:
        subjects = {subject for write in writes for subject in write.data_subjects}
        keys = await self.keyring.to_seal(subjects)
        for write in writes:
            write.seal(keys)


def _check_together(writes: Sequence[PendingAppend]) -> None:
    """Raise `InvalidMessage` unless these can be one append; each by itself is checked."""
    if not writes or len({write.subject for write in writes}) < len(writes):
        raise InvalidMessage("an append names at least one aggregate, and each only once")
    ids = [event_id for write in writes for event_id in write.event_ids]
    if len(set(ids)) < len(ids):
        raise InvalidId(
            f"append to {writes[0].subject}: an event id repeats; each event needs its own"
        )
