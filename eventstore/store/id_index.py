"""Event deduplication: an index of the event ids of each aggregate, read once and kept up to date.

The server forgets an id after its duplicate window. An append whose ids the caller may have sent
before is therefore searched for in the aggregate itself. To avoid reading all of the aggregate each
time, the ids read so far are added to a pair of filters, from 2 KB for an aggregate; an id that is
missing in one of them is new, one that seems to be in both is searched for in the log. One filter
would have a false positive for nearly every large batch, and so all of the aggregate would be read;
both have one for 1 id in 50,000.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import NOTHING, Head
from eventstore.store.linked_reading import LinkedReading

_ENTRY_BYTES = 800
"""What an aggregate takes besides the bits of its filters."""

_START = (NOTHING.position, NOTHING.event_id)


class IdIndex:
    """The event ids of the aggregates used last; `max_bytes` bounds what they take in memory."""

    def __init__(self, reading: LinkedReading, *, max_bytes: int) -> None:
        self.size = 0
        self.reading = reading
        self._max_bytes = max_bytes
        self._known: OrderedDict[str, _AggregateIds] = OrderedDict()

    async def find(self, subject: str, ids: Sequence[str], until: Head) -> list[StoredMessage]:
        """The events with these ids that an aggregate has up to a head, in order.

        Reads what the index does not cover yet: at first all of the aggregate, and all of it once
        more if an id seems to be there. An event after `until` may be found too. Raises what the
        reader raises.
        """
        known = self._known.get(subject) or _AggregateIds()
        if known.may_hold(ids):
            return await self._read(subject, known, ids, max(until.position, known.end[0]))
        if known.covers(until):
            return []
        try:
            return await self._read(subject, known, ids, until.position, after=known.end)
        except _LogReplaced:
            return await self._read(subject, _AggregateIds(), ids, until.position)

    def recorded(self, subject: str, base: Head, head: Head, ids: Sequence[str]) -> None:
        """Add events that were appended right after `base`, if the index covers that."""
        known = self._known.get(subject)
        if known is not None and known.end == (base.position, base.event_id):
            known.extend(head.position, ids)
            self._put(subject, known)

    async def _read(
        self,
        subject: str,
        known: _AggregateIds,
        ids: Sequence[str],
        until: int,
        *,
        after: tuple[int, str] = _START,
    ) -> list[StoredMessage]:
        """Read on after the last known event, which must still be there, or from the beginning."""
        wanted, found = set(ids), []
        # From that event on, so that it is in the same page.
        between = self.reading.between(subject, max(0, after[0] - 1), until)
        try:
            async with aclosing(between) as messages:
                async for message in messages:
                    own_id = message.headers.get(Header.EVENT_ID, "")
                    if after not in (_START, (message.sequence, own_id)):
                        raise _LogReplaced
                    after = _START
                    known.extend(message.sequence, [own_id])
                    if own_id in wanted:
                        found.append(message)
        finally:  # what was read is useful even after a timeout
            self._put(subject, known)
        return found

    def _put(self, subject: str, known: _AggregateIds) -> None:
        self._drop(subject)
        self._known[subject] = known
        known.counted = known.size
        self.size += known.counted
        while self.size > self._max_bytes and len(self._known) > 1:
            self._drop(next(iter(self._known)))

    def _drop(self, subject: str) -> None:
        if (known := self._known.pop(subject, None)) is not None:
            self.size -= known.counted


class _LogReplaced(Exception):
    """Another event is at the position of the last known one, as in a restored log."""


class _AggregateIds:
    """The ids of one aggregate's events up to a position, and the event there."""

    def __init__(self) -> None:
        self.end = _START
        self.counted = 0
        self._filter = CommandFilter.empty()
        self._of_reversed = CommandFilter.empty()

    @property
    def size(self) -> int:
        return _ENTRY_BYTES + self._filter.size + self._of_reversed.size

    def may_hold(self, ids: Iterable[str]) -> bool:
        return any(each in self._filter and each[::-1] in self._of_reversed for each in ids)

    def covers(self, head: Head) -> bool:
        """Whether it has all ids up to a head; an older head is stale, which the guard refuses."""
        return self.end[0] > head.position or self.end == (head.position, head.event_id)

    def extend(self, position: int, ids: Sequence[str]) -> None:
        """Add the events that follow, the last of them at `position`, unless they are known."""
        if position > self.end[0]:
            for each in ids:
                self._filter.add(each)
                self._of_reversed.add(each[::-1])
            self.end = position, ids[-1]
