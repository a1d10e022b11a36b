"""Reads an aggregate whose events lie far apart backwards, from each event to the one before it.

To find the messages of one subject, nats-server looks into every block of a log's files from the
first of them to the last, reads the blocks that it has not read lately, and lets nobody append
meanwhile: seconds in a log of some GB. But an event names the position of the one before it on its
subject: the server has compared it with what it had, before it stored the event. Whoever follows
these positions finds all messages of the subject, and reads only the blocks that they are in, at
the cost of a round trip for each. Whatever names no such position, and an aggregate whose events
are many or lie close together, is left to be read in pages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from eventstore.concurrency.chunks import chunked, map_chunked
from eventstore.concurrency.pages import Pages, ReadyPages
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import EventHeaders

_FAR = 200_000
"""Messages that the server may search for a page: about 20 blocks of 8 MB."""
_NEAR = 20_000
"""Messages between the last two events of an aggregate of which others may be as close."""
_BLOCK = 10_000
"""Messages in a block, about: what may be searched for each round trip that is saved."""
_MIN_STEPS = 32
_AT_ONCE = 32


class LinkedReading:
    """Reads aggregates, backwards where that is faster."""

    def __init__(self, direct: DirectReader) -> None:
        self._direct = direct
        self._end = 0

    async def pages(
        self, subject: str, after: int = 0, *, leader: bool = False, max_messages: int = MAX_PAGE
    ) -> Pages[StoredMessage]:
        """The messages on a literal subject after a position, as `DirectReader.pages`."""
        end = self._see()
        if not end or end - after > _FAR:
            last = await (self._direct.leader_last if leader else self._direct.last_on)(subject)
            if last is None or last.sequence <= after:
                return ReadyPages()
            self._see(last.sequence)
            if last.sequence - after > _FAR:
                messages = await self._backwards(await self._newest(last), after)
                if messages is not None:
                    return ReadyPages(map(list, chunked(messages, max_messages)))
        return self._direct.pages(subject, after, leader=leader, max_messages=max_messages)

    async def messages(self, subject: str, after: int = 0) -> AsyncGenerator[StoredMessage, None]:
        """All messages on a literal subject after a position, up to the leader's last."""
        async for page in await self.pages(subject, after, leader=True):
            for message in page:
                yield message

    async def between(
        self, subject: str, after: int, until: int
    ) -> AsyncGenerator[StoredMessage, None]:
        """The messages on a literal subject after a position, up to another, from the leader.

        The other is that of one of the messages.
        """
        messages = None
        if self._see(until) - after > _FAR:
            last = await self._direct.at(until, leader=True)
            if last is not None and last.subject == subject:
                messages = await self._backwards([last], after)
        if messages is not None:
            for message in messages:
                yield message
            return
        async for page in self._direct.pages(subject, after, leader=True):
            for message in page:
                if message.sequence > until:
                    return
                yield message
            if page[-1].sequence >= until:
                return

    async def up_to(self, subject: str, position: int, count: int) -> list[StoredMessage] | None:
        """At most so many messages up to the position of one of them, oldest first.

        Fewer if the first one is among them. None if they are better read in pages.
        """
        if self._see(position) <= _FAR:
            return None
        last = await self._direct.at(position)
        if last is None or last.subject != subject:
            return None
        before = _position_before(last)
        if before is None or position - before <= _NEAR:
            return None
        return await self._backwards([last], 0, count)

    async def _newest(self, last: StoredMessage) -> list[StoredMessage]:
        """The last message, and if others come shortly before it, all that do; [] for too many."""
        before = _position_before(last)
        if before is None or last.sequence - before > _NEAR:
            return [last]
        page = await self._direct.pages(last.subject, last.sequence - _FAR).next_page()
        return page if page and page[-1].sequence >= last.sequence else []

    async def _backwards(
        self, newest: list[StoredMessage], after: int, count: int | None = None
    ) -> list[StoredMessage] | None:
        """The newest messages and those before, oldest first; None: read them all in pages.

        With `count`, at most so many, counted from the oldest of the newest on.
        """
        older = newest[:1]
        while older and (before := _position_before(older[-1])) is not None:
            if before <= after or len(older) == count:
                return older[:0:-1] + newest
            if len(older) > _MIN_STEPS + (older[0].sequence - before) // _BLOCK:
                return None
            message = await self._direct.at(before)
            if message is None or message.subject != older[0].subject:
                return None
            older.append(message)
        return None

    def _see(self, position: int = 0) -> int:
        """Take note of a position; returns the last one that the log is known to have."""
        self._end = max(position, self._end, self._direct.newest)
        return self._end


def _position_before(message: StoredMessage) -> int | None:
    """The position of the message before it on its subject, 0 if it is the first.

    None if it is unknown. Within a batch it is the position before, if the message there is on the
    same subject. Only headers in the store's form are believed: with others, the server may have
    compared something else.
    """
    headers = message.headers
    if not isinstance(headers, EventHeaders):
        return None
    if (before := headers.get(NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE)) is not None:
        return int(before) if int(before) < message.sequence else None
    return message.sequence - 1 if NatsHeader.BATCH_ID in headers else None


async def messages_before(
    reader: DirectReader, messages: Sequence[StoredMessage], until: int
) -> dict[str, StoredMessage]:
    """The last message up to a position on the subjects of messages that are the first after it.

    By subject; may lag on a replicated stream.
    """
    found: dict[str, StoredMessage] = {}
    unknown: list[str] = []
    named: list[tuple[str, int]] = []
    for message in messages:
        before = _position_before(message)
        if before is None or before > until:
            unknown.append(message.subject)
        elif before:
            named.append((message.subject, before))
    answers = await map_chunked(reader.at, [before for _, before in named], _AT_ONCE)
    for (subject, _), answer in zip(named, answers, strict=True):
        if answer is None or answer.subject != subject:
            unknown.append(subject)
        else:
            found[subject] = answer
    if unknown and until:
        others = await reader.last_of_each(unknown, until)
        found.update({message.subject: message for message in others})
    return found
