"""The head of an aggregate: its last event, and how to find it in the log."""

from __future__ import annotations

import msgspec

from eventstore.errors import InvalidHeader, UnreadableEvent
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.chain import GENESIS
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import Header
from eventstore.store.chain_links import Link, Links, follow


class Head(msgspec.Struct, frozen=True, gc=False):
    """An aggregate's last event: its position, version, chain value and id."""

    position: int
    version: int
    chain: str
    event_id: str

    @classmethod
    def of(cls, message: StoredMessage) -> Head:
        """The head after a stored event; raises `UnreadableEvent`."""
        headers = message.headers
        try:
            return cls(
                message.sequence,
                int(headers[Header.AGGREGATE_VERSION]),
                headers[Header.CHAIN],
                headers[Header.EVENT_ID],
            )
        except (KeyError, ValueError):
            cause = InvalidHeader(Header.AGGREGATE_VERSION, "or the chain or id is missing")
            raise UnreadableEvent(message.sequence, message.subject, cause) from None

    @classmethod
    def after(cls, event: RecordedEvent) -> Head:
        """The head after an event."""
        chain = event.envelope.chain or GENESIS
        return cls(event.position, event.version, chain, event.id)

    def matches(self, message: StoredMessage) -> bool:
        """Whether a stored message is the event that this head names."""
        try:
            return Head.of(message) == self
        except UnreadableEvent:
            return False


NOTHING = Head(0, 0, GENESIS, "")
"""The head of an aggregate without events."""


class FoundHead(msgspec.Struct, frozen=True, gc=False):
    """An aggregate's head, and the position of the last message on its subject.

    They differ if foreign messages follow the last event.
    """

    head: Head
    end: int


class HeadWalk:
    """Finds an aggregate's head by reading its messages after a known head."""

    def __init__(self, head: Head = NOTHING) -> None:
        self.head = head
        self.end = head.position
        self._links = Links(Link(head.version, head.chain, head.position))

    @property
    def found(self) -> FoundHead:
        """The head after the messages seen so far."""
        return FoundHead(self.head, self.end)

    def see(self, message: StoredMessage) -> bool:
        """Take the next message; returns whether it is the aggregate's next event."""
        self.end = message.sequence
        followed = follow(self._links, message)
        is_next = followed.links.head.version > self._links.head.version
        self._links = followed.links
        if is_next:
            self.head = Head.of(message)
        return is_next


async def find_head(
    reader: DirectReader, subject: str, *, leader: bool = False, known: Head | None = None
) -> FoundHead:
    """The head of an aggregate; `known` is an earlier one.

    Takes one request if the last message is the known head's or follows it, and another for the
    message before it to verify that; else all of the aggregate is read.
    """
    last = await (reader.leader_last(subject) if leader else reader.last(subject))
    return FoundHead(NOTHING, 0) if last is None else await head_at(reader, last, known)


async def head_at(reader: DirectReader, last: StoredMessage, known: Head | None) -> FoundHead:
    """The head of an aggregate whose last message is known; see `find_head`."""
    if known is not None and known.matches(last):
        return FoundHead(known, last.sequence)
    if known is not None and (walk := HeadWalk(known)).see(last):
        return walk.found
    before = await _head_before(reader, last)
    if before is not None and (walk := HeadWalk(before)).see(last):
        return walk.found
    walk = HeadWalk()
    async for message in reader.messages(last.subject):
        walk.see(message)
    return walk.found


async def _head_before(reader: DirectReader, message: StoredMessage) -> Head | None:
    """The head at the message before one on its subject; None if that is no event."""
    until = message.sequence - 1
    found = await reader.last_of_each([message.subject], until) if until else []
    try:
        return Head.of(found[0]) if found else NOTHING
    except UnreadableEvent:
        return None
