"""Append deduplication: which of an append's events its aggregates hold already.

An append is atomic: if one of its events is found, all must be, each aggregate's as one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header
from eventstore.store.head import NOTHING, FoundHead, Head, HeadWalk
from eventstore.store.id_index import IdIndex
from eventstore.store.pending_append import PendingAppend


class AppendSearch:
    """The search for the events of one append; remembers what it found.

    `may_be_repeat` is whether the caller may have sent the ids before; `claimed` says which of them
    is used according to the server. Without either, only events after the base are searched.
    """

    def __init__(self, direct: DirectReader, ids: IdIndex, writes: Sequence[PendingAppend]) -> None:
        self._direct = direct
        self._ids = ids
        self._writes = writes
        self._event_ids = [each for write in writes for each in write.event_ids]
        self._found: dict[tuple[str, str], StoredMessage] = {}  # by subject and event id
        self.may_be_repeat = any(write.may_be_repeat for write in writes)
        self.claimed = ""

    @property
    def found_any(self) -> bool:
        """Whether any of the events is recorded."""
        return bool(self._found)

    @property
    def used_id(self) -> str:
        """Names the id that is used, for the text of an error."""
        for (_, event_id), message in self._found.items():
            return f"event id {event_id} is recorded at position {message.sequence} already"
        return self.claimed

    async def all_up_to_now(self) -> list[FoundHead]:
        """Search each aggregate up to the head that the leader knows now; returns these heads."""
        heads = []
        for write in self._writes:
            found = await self._head_now(write)
            await self.up_to(write, found.head)
            heads.append(found)
        return heads

    async def up_to(self, write: PendingAppend, until: Head) -> None:
        """Search a write's aggregate up to a head for the events of all writes."""
        if self.may_be_repeat or self.claimed:
            messages = await self._ids.find(write.subject, self._event_ids, until)
        else:
            messages = await self._after_base(write, until)
        for message in await self._without_foreign(write.subject, messages):
            self._found[write.subject, message.headers[Header.EVENT_ID]] = message

    def note_recorded(self) -> bool:
        """Whether all events are recorded, each aggregate's as one run; then notes the results."""
        runs = [self._run_of(write) for write in self._writes]
        if not all(runs):
            return False
        for write, run in zip(self._writes, runs, strict=True):
            write.recorded(run[-1], [head.position for head in run], duplicate=True)
        return True

    def _run_of(self, write: PendingAppend) -> list[Head]:
        """The heads that a write's events made, in order; none if they are not one run."""
        keys = [(write.subject, each) for each in write.event_ids]
        heads = [Head.of(self._found[each]) for each in keys if each in self._found]
        run = [(heads[0].version + index if heads else 0) for index in range(len(keys))]
        return heads if [head.version for head in heads] == run else []

    async def _head_now(self, write: PendingAppend) -> FoundHead:
        last = await self._direct.leader_last(write.subject)
        if last is None or last.sequence < write.end or write.base.matches(last):
            return FoundHead(write.base, write.end)
        found = await self._walk(write.subject, write.base)
        if found.head == write.base != NOTHING:  # the log may have been replaced
            found = await self._walk(write.subject, NOTHING)
        return found

    async def _walk(self, subject: str, start: Head) -> FoundHead:
        walk = HeadWalk(start)
        async with aclosing(self._ids.reading.messages(subject, start.position)) as messages:
            async for message in messages:
                walk.see(message)
        return walk.found

    async def _after_base(self, write: PendingAppend, until: Head) -> list[StoredMessage]:
        """The write's events, if their ids were never sent before: only after its base."""
        reading = self._ids.reading.between(write.subject, write.base.position, until.position)
        async with aclosing(reading) as messages:
            return [
                message
                async for message in messages
                if message.headers.get(Header.EVENT_ID) in write.event_ids
            ]

    async def _without_foreign(
        self, subject: str, found: list[StoredMessage]
    ) -> list[StoredMessage]:
        """The found messages that are the aggregate's events: foreign ones may copy an id."""
        if not found:
            return found
        walk, last = HeadWalk(), max(message.sequence for message in found)
        async with aclosing(self._ids.reading.between(subject, 0, last)) as messages:
            events = {each.sequence async for each in messages if walk.see(each)}
        return [message for message in found if message.sequence in events]
