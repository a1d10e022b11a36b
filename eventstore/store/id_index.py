"""Event deduplication: which event ids an aggregate's log holds, read once and kept up to date.

The server forgets an id after its duplicate window. An append whose ids the caller may have sent
before is therefore looked for in the aggregate itself. So that this does not cost reading the
whole aggregate each time, the ids read so far are kept in a pair of filters, from 2 KB for an
aggregate; what one of them does not hold is new for certain, what both seem to hold is looked for
in the log. One filter would be wrong about some id of nearly every large batch, and so would have
the whole aggregate read for it; two are both wrong about 1 id in 50,000.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.messages.envelope import Header
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import NOTHING, Head

__all__ = ["IdIndex", "stored_between"]

_MAX_BYTES = 16 * 1024 * 1024
_START = (NOTHING.position, NOTHING.event_id)


class IdIndex:
    """The event ids of the aggregates used last; `max_bytes` bounds the filters."""

    def __init__(self, direct: DirectReader, *, max_bytes: int = _MAX_BYTES) -> None:
        self.size = 0
        self._direct = direct
        self._max_bytes = max_bytes
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def find(self, subject: str, ids: Sequence[str], until: Head) -> list[StoredMessage]:
        """The events with these ids that an aggregate holds up to a head, in their order.

        Reads what the index does not cover yet: at first all of the aggregate, and all of it again
        where an id seems to be there. One that stands after `until` may be found too. Raises what
        the reader raises.
        """
        known = self._known.get(subject) or _Known()
        if known.may_hold(ids):
            return await self._read(subject, known, ids, max(until.position, known.end[0]))
        if known.covers(until):
            return []
        try:
            return await self._read(subject, known, ids, until.position, after=known.end)
        except _OtherLog:
            return await self._read(subject, _Known(), ids, until.position)

    def recorded(self, subject: str, base: Head, head: Head, ids: Sequence[str]) -> None:
        """Note events that were appended right after `base`, if the index reaches up to there."""
        known = self._known.get(subject)
        if known is not None and known.end == (base.position, base.event_id):
            known.extend(head.position, ids)
            self._keep(subject, known)

    async def _read(
        self,
        subject: str,
        known: _Known,
        ids: Sequence[str],
        until: int,
        *,
        after: tuple[int, str] = _START,
    ) -> list[StoredMessage]:
        """Read on after the last known event, which must still be there, or from the beginning."""
        wanted, found = set(ids), []
        # From that event on, so that it is seen in the same page.
        reading = stored_between(self._direct, subject, max(0, after[0] - 1), until)
        try:
            async with aclosing(reading) as messages:
                async for message in messages:
                    own_id = message.headers.get(Header.EVENT_ID, "")
                    if after not in (_START, (message.sequence, own_id)):
                        raise _OtherLog
                    after = _START
                    known.extend(message.sequence, [own_id])
                    if own_id in wanted:
                        found.append(message)
        finally:  # what was read is of use, also where the time ran out
            self._keep(subject, known)
        return found

    def _keep(self, subject: str, known: _Known) -> None:
        self._drop(subject)
        self._known[subject] = known
        known.counted = known.size
        self.size += known.counted
        while self.size > self._max_bytes and len(self._known) > 1:
            self._drop(next(iter(self._known)))

    def _drop(self, subject: str) -> None:
        if (known := self._known.pop(subject, None)) is not None:
            self.size -= known.counted


class _OtherLog(Exception):
    """Another event stands where the last known one was, as in a log that was restored."""


class _Known:
    """The ids of one aggregate's events up to a position, and which event is there."""

    def __init__(self) -> None:
        self.end = _START
        self.counted = 0
        self._filter = CommandFilter.empty()
        self._of_reversed = CommandFilter.empty()

    @property
    def size(self) -> int:
        """Bytes of the filters."""
        return self._filter.size + self._of_reversed.size

    def may_hold(self, ids: Iterable[str]) -> bool:
        return any(each in self._filter and each[::-1] in self._of_reversed for each in ids)

    def covers(self, head: Head) -> bool:
        """Whether it has all ids up to a head; one further back is stale, which the guard finds."""
        return self.end[0] > head.position or self.end == (head.position, head.event_id)

    def extend(self, position: int, ids: Sequence[str]) -> None:
        """Add the events that follow, the last of them at `position`, unless they are known."""
        if position > self.end[0]:
            for each in ids:
                self._filter.add(each)
                self._of_reversed.add(each[::-1])
            self.end = position, ids[-1]


async def stored_between(
    direct: DirectReader, subject: str, after: int, until: int
) -> AsyncGenerator[StoredMessage, None]:
    """The messages on a literal subject after a sequence, up to another that the leader knows."""
    if after >= until:
        return
    async with aclosing(direct.pages(subject, after, leader=True)) as pages:
        async for page in pages:
            for message in page:
                if message.sequence > until:
                    return
                yield message
            if page[-1].sequence >= until:
                return
