"""Reads the events of one aggregate from the newest to the oldest, in pages of direct gets.

The server reads forwards only. So an event some versions further back is found, and what follows it
is read and verified, page by page. Events that lie far apart in a long log are read one by one
instead, each at the position that the one after it names. If a foreign message is met on the way,
all of the aggregate is read.
"""

from __future__ import annotations

from eventstore.concurrency.pages import Pages
from eventstore.errors import EventStoreError
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.store.aggregate_reading import AggregateReading, FoundEvent, version_of
from eventstore.store.bounds import Bounds
from eventstore.store.chain_links import GENESIS_LINKS, Link, link_after
from eventstore.store.foreign import LogFindings, link_of
from eventstore.store.keyring import Keyring
from eventstore.store.linked_reading import LinkedReading
from eventstore.store.version_search import find_version

_HALF = MAX_PAGE // 2
_MIN_SLACK = 8  # events read in vain, for which the server is asked less often

Page = tuple[Link, list[FoundEvent]]
"""Events, oldest first, and the link before them."""


class BackwardsReading(Pages[FoundEvent]):
    """The events of one aggregate up to the newest one, within bounds of their versions.

    Newest first. They are verified and raise as `EventStore.read` says; the seams between pages,
    too.
    """

    def __init__(
        self,
        reader: DirectReader,
        linked: LinkedReading,
        codec: Codec,
        keyring: Keyring,
        findings: LogFindings,
        subject: str,
        newest: Link,
        bounds: Bounds,
    ) -> None:
        self._reader = reader
        self._linked = linked
        self._codec = codec
        self._keyring = keyring
        self._findings = findings
        self._subject = subject
        self._bounds = bounds
        self._size = bounds.page_size(_HALF)
        self._newest = newest
        self._high = newest if bounds.until is None else None
        version = newest.version
        self._version = version if bounds.until is None else min(bounds.until, version)

    async def next_page(self) -> list[FoundEvent]:
        """See `Pages`."""
        while self._version > self._bounds.after:
            wanted = self._version, self._size, self._newest
            read = await self._by_positions(*wanted)
            start, found = read or await self._by_search(*wanted, self._high)
            self._version, self._newest, self._high = start.version, start, start
            within = [each for each in reversed(found) if self._bounds.includes(version_of(each))]
            if within:
                return within
        return []

    async def _by_positions(self, version: int, size: int, newest: Link) -> Page | None:
        """The events up to `newest` that lie far apart; None if they do not, or do not follow."""
        if newest.version - version > size:
            return None
        count = newest.version - version + size + 1
        messages = await self._linked.up_to(self._subject, newest.position, count)
        if messages is None:
            return None
        begin = link_of(messages.pop(0)) if len(messages) == count else GENESIS_LINKS.head
        if begin is None:
            return None
        reading = AggregateReading(self._codec, begin)
        found = await self._following(reading, messages)
        return None if found is None or reading.head != newest else (begin, found)

    async def _by_search(self, version: int, size: int, newest: Link, high: Link | None) -> Page:
        start = await self._start(version, size, newest)
        found = None if start is None else await self._between(start, version, high)
        if start is None or found is None:
            return GENESIS_LINKS.head, await self._all(version)
        return start, found

    async def _start(self, version: int, size: int, newest: Link) -> Link | None:
        """A link some versions before one, to read on from."""
        highest = max(0, version - size)
        lowest = max(0, highest - max(size, _MIN_SLACK))
        if lowest == 0:
            return GENESIS_LINKS.head
        found = await find_version(self._reader, self._subject, lowest, highest, newest)
        return None if found is None else link_of(found)

    async def _between(
        self, start: Link, version: int, last: Link | None
    ) -> list[FoundEvent] | None:
        """The events after a link up to a version; None if one of them does not follow.

        `last` is the last of them, if that is known.
        """
        reading = AggregateReading(self._codec, start)
        found: list[FoundEvent] = []
        position = start.position
        while (missing := version - reading.head.version) > 0:
            messages = (await self._page(position, missing))[:missing]
            following = await self._following(reading, messages)
            if not following:
                return None
            found += following
            position = messages[-1].sequence
        return found if last is None or reading.head == last else None

    async def _following(
        self, reading: AggregateReading, messages: list[StoredMessage]
    ) -> list[FoundEvent] | None:
        """What messages are decoded to; None if one of them does not follow."""
        keys = await self._keyring.to_open(message.headers for message in messages)
        found: list[FoundEvent] = []
        for message in messages:
            if not link_after(reading.head, message):
                return None
            read = reading.read(message, keys)
            if read is None:
                return None
            found.append((message, read))
        return found

    async def _page(self, after: int, count: int) -> list[StoredMessage]:
        messages, _ = await self._reader.page(self._subject, after, count)
        if messages:
            return messages
        following = await self._reader.leader_next(self._subject, after)  # a follower may lag
        return [] if following is None else [following]

    async def _all(self, version: int) -> list[FoundEvent]:
        """The events up to a version, read from the first one on."""
        reading = AggregateReading(self._codec, GENESIS_LINKS.head, self._findings)
        found: list[FoundEvent] = []
        async for page in self._reader.pages(self._subject, leader=True):
            keys = await self._keyring.to_open(message.headers for message in page)
            for message in page:
                if reading.head.version >= version:
                    return found
                if (read := reading.read(message, keys)) is not None:
                    found.append((message, read))
        problem: EventStoreError | None = reading.problem
        if problem is not None:
            raise problem
        return found
