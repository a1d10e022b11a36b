"""What the store reads of one aggregate: its head, its events, its last, and one by its id."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from eventstore.concurrency.pages import Pages
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import MessageId, check_message_id
from eventstore.messages.events import RecordedEvent, UnreadEvent
from eventstore.messages.subjects import AggregateId, check_name
from eventstore.store.aggregate_reading import (
    AggregateReading,
    FoundEvent,
    parts_of,
    read_stored_event,
)
from eventstore.store.backwards import BackwardsReading
from eventstore.store.bounds import Bounds
from eventstore.store.chain_links import Link
from eventstore.store.foreign import LogFindings, link_of
from eventstore.store.forwards import ForwardsReading
from eventstore.store.head import NOTHING, Head, find_head, head_at
from eventstore.store.id_index import IdIndex
from eventstore.store.keyring import Keyring
from eventstore.store.known_heads import KnownHeads
from eventstore.store.linked_reading import LinkedReading
from eventstore.store.version_search import find_version, is_followed


class AggregateReads:
    """The part of the store that reads aggregates."""

    codec: Codec
    keyring: Keyring
    findings: LogFindings
    _direct: DirectReader
    _linked: LinkedReading
    _ids: IdIndex
    _heads: KnownHeads

    async def head(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        leader: bool = False,
        known: Head | None = None,
    ) -> Head:
        """The head of an aggregate; `NOTHING` if it has no events.

        Without `leader` it may be outdated on a replicated stream. `known` is an earlier head,
        which may save a request.
        """
        return await self._head(self._known(aggregate, aggregate_id), leader, known)

    async def _head(self, subject: str, leader: bool, known: Head | None = None) -> Head:
        era, known = self._heads.era, known or self._heads.get(subject)
        found = await find_head(self._direct, subject, leader=leader, known=known)
        self._heads.note(subject, found.head, era)
        return found.head

    async def last_position(self, aggregate: str, aggregate_id: AggregateId) -> int:
        """The position of the last message of an aggregate, 0 if it has none.

        It may be foreign, and outdated on a replicated stream.
        """
        last = await self._direct.last(self.codec.subjects.log(aggregate, aggregate_id))
        return 0 if last is None else last.sequence

    async def holds(
        self, aggregate: str, aggregate_id: AggregateId, head: Head, *, leader: bool = False
    ) -> bool:
        """Whether this is, or once was, the aggregate's head: this event, after the same events.

        Without `leader` the newest events may be missed on a replicated stream.
        """
        subject = self._known(aggregate, aggregate_id)
        message = await self._direct.at(head.position, leader=leader)
        return message is not None and message.subject == subject and head.matches(message)

    async def read(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        after: int | Head = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        leader: bool = False,
        opaque: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """One aggregate's events after a version or a known head, up to and including `until`.

        Oldest first, or `backwards`; at most `limit`. The cost is that of what is read: a request
        for 256 events, and some more to find where to begin, backwards and after a version above
        256 (at worst twice the logarithm of the log's length). If foreign messages are in the way
        there, all of the aggregate is read.

        The events are verified: versions without a gap, chain values that follow, known types. An
        event of an older schema may be read as several events of one version, or as none. Foreign
        messages, a changed last event among them, are skipped. If reading does not begin with the
        first event, the one before is trusted if the first follows it. With `opaque`, an event of a
        type that the codec does not know is read as an `OpaqueEvent`. Without `leader`, which costs
        another request, it may miss the newest events on a replicated stream.

        Raises `UnreadableEvent`, which names the event, and that or `VersionGap` if events were
        changed or removed that later ones were built upon; `InvalidRange`.
        """
        start = after if isinstance(after, Head) else NOTHING
        version = start.version if isinstance(after, Head) else after
        bounds = Bounds.checked(version, until, limit)
        subject = self._known(aggregate, aggregate_id, opaque=opaque)
        pages: Pages[FoundEvent]
        if backwards:
            pages = await self._backwards(subject, bounds, leader)
        else:
            pages = await self._forwards(subject, start, bounds, leader)
        count = 0
        async for page in pages:
            for _, found in page:
                parts = parts_of(found, subject, opaque=opaque)
                for event in reversed(parts) if backwards else parts:
                    yield event
                    count += 1
                    if count == limit:
                        return

    async def last(
        self, aggregate: str, aggregate_id: AggregateId, *, leader: bool = False
    ) -> RecordedEvent | None:
        """The last event of an aggregate; None if it has no events.

        Takes one request, and another one to verify that the event follows the one before, unless
        the store knows that from its own appends and reads. Of an event that is read as several, it
        is the last; one that is read as nothing is passed over. `leader` and what is raised are as
        in `read`.
        """
        subject = self._known(aggregate, aggregate_id)
        era, known = self._heads.era, self._heads.get(subject)
        get = self._direct.leader_last if leader else self._direct.last
        message = await get(subject)
        if message is None:
            return None
        found = await head_at(self._direct, message, known)
        self._heads.note(subject, found.head, era)
        if found.head.position == message.sequence:
            keys = await self.keyring.to_open([message.headers])
            read = read_stored_event(self.codec, message, keys)
            if parts := parts_of(read, subject):
                return parts[-1]
        reading = self.read(aggregate, aggregate_id, backwards=True, limit=1, leader=leader)
        async with aclosing(reading) as events:
            return await anext(events, None)

    async def find(
        self, aggregate: str, aggregate_id: AggregateId, event_id: MessageId
    ) -> RecordedEvent | None:
        """The event of an aggregate that has this id; None if it has none.

        The first look-up in an aggregate reads all of it, later ones only newer events and the one
        that is found, as long as the store remembers the aggregate's ids (see `append_all`). There
        is no look-up across aggregates here: the log has no index of ids, but the audit index of
        the read models has one, as of their checkpoint.

        Raises `InvalidId`, and what `read` raises.
        """
        wanted = check_message_id(event_id)
        subject = self._known(aggregate, aggregate_id)
        head = await self._head(subject, leader=True)
        for message in await self._ids.find(subject, [wanted], head):
            link = link_of(message)  # a foreign message may have the id, too
            if link is not None and link.version <= head.version:
                before, until = link.version - 1, link.version
                read = self.read(aggregate, aggregate_id, after=before, until=until, leader=True)
                async with aclosing(read) as events:
                    async for event in events:
                        if event.position == message.sequence:
                            return event
        return None

    async def read_stored(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        after: Head = NOTHING,
        leader: bool = False,
    ) -> AsyncGenerator[tuple[StoredMessage, list[RecordedEvent]], None]:
        """One aggregate's events as stored, oldest first, each with its decoded parts.

        For callers that need the head after each event (`Head.of`), even after one that is decoded
        to nothing. Verifies and raises as `read` does.
        """
        subject = self._known(aggregate, aggregate_id)
        async for page in await self._forwards(subject, after, Bounds(), leader):
            for message, found in page:
                yield message, parts_of(found, subject)

    async def read_whole(
        self, aggregate: str, aggregate_id: AggregateId, *, leader: bool = False
    ) -> AsyncGenerator[list[RecordedEvent] | UnreadEvent, None]:
        """One aggregate's events as stored, oldest first, each as its parts or without data.

        For callers that must go on after an unreadable event; those of an unknown aggregate all
        are. `leader` is as in `read`. Foreign messages are skipped, and so are events that were
        built upon a changed one.
        """
        subject = self._known(aggregate, aggregate_id, opaque=True)
        reading = AggregateReading(self.codec, Link(0, NOTHING.chain), self.findings)
        stored = await self._linked.pages(subject, leader=leader)
        async for page in ForwardsReading(stored, reading, self.keyring):
            for _, found in page:
                yield found

    def _known(self, aggregate: str, aggregate_id: AggregateId, *, opaque: bool = False) -> str:
        """The subject of an aggregate; raises `UnknownType` for a kind that the codec lacks."""
        if opaque:
            check_name("aggregate", aggregate)
        else:
            self.codec.check_aggregate(aggregate)
        return self.codec.subjects.log(aggregate, aggregate_id)

    async def _forwards(
        self, subject: str, start: Head, bounds: Bounds, leader: bool
    ) -> ForwardsReading:
        """The events after a head; the head after the last of them is remembered."""
        if bounds.after > start.version + MAX_PAGE:
            start = await self._start(subject, bounds.after, leader)
        head, era = Link(start.version, start.chain, start.position), self._heads.era
        reading = AggregateReading(self.codec, head, self.findings)
        size = bounds.page_size(MAX_PAGE, from_number=start.version)
        stored = await self._linked.pages(subject, start.position, leader=leader, max_messages=size)

        def at_end(last: StoredMessage | None) -> None:
            if reading.problem is not None:
                raise reading.problem
            if last is not None:
                self._heads.note(subject, Head.of(last), era)

        return ForwardsReading(stored, reading, self.keyring, bounds, at_end)

    async def _start(self, subject: str, version: int, leader: bool) -> Head:
        """The head after an event at most 256 versions before one; `NOTHING` if none is found."""
        head = await self._head(subject, leader)
        if head.version <= version:
            return head
        newest = Link(head.version, head.chain, head.position)
        lowest = max(1, version - MAX_PAGE // 2)
        found = await find_version(self._direct, subject, lowest, version, newest)
        if found is None or not await is_followed(self._direct, found):
            return NOTHING
        return Head.of(found)

    async def _backwards(self, subject: str, bounds: Bounds, leader: bool) -> BackwardsReading:
        head = await self._head(subject, leader)
        newest = Link(head.version, head.chain, head.position)
        parts = self._direct, self._linked, self.codec, self.keyring, self.findings
        return BackwardsReading(*parts, subject, newest, bounds)
