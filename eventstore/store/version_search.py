"""Finds an event of an aggregate by its version, without reading the events before it.

The server finds messages by position, not by version. The last message on the subject up to a
guessed position shows in which direction to go on: a few direct gets, about the logarithm of the
log's length in the worst case.
"""

from __future__ import annotations

from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.store.chain_links import Link, link_after
from eventstore.store.foreign import link_of

_MAX_PROBES = 64


async def find_version(
    reader: DirectReader, subject: str, lowest: int, highest: int, newest: Link
) -> StoredMessage | None:
    """An event of one of these versions, which are before that of `newest`, a later event.

    None if none is found among foreign messages. Only the event after it shows that it is none
    itself: see `is_followed`.
    """
    left, right = Link(0, "", 0), newest
    guess = right.position - (right.version - highest)  # as if no other aggregate were between
    for probe in range(_MAX_PROBES):
        guess = min(max(guess, left.position + 1), right.position - 1)
        if guess <= left.position:
            return None
        found = await reader.last_of_each([subject], guess)
        link = link_of(found[0]) if found else Link(left.version, "", guess)
        if link is None or not left.version <= link.version < right.version:
            return None
        if found and lowest <= link.version <= highest:
            return found[0]
        if link.version < lowest:
            left = Link(link.version, "", guess)
        else:
            right = link
        guess = _next_guess(left, right, (lowest + highest) // 2, halve=probe % 3 == 2)
    return None


def _next_guess(left: Link, right: Link, version: int, *, halve: bool) -> int:
    """The position at which a version is if all are equally far apart, or the one in the middle."""
    distance = right.position - left.position
    if halve:
        return left.position + distance // 2
    share = distance * (version - left.version) // (right.version - left.version)
    return left.position + share


async def is_followed(reader: DirectReader, message: StoredMessage) -> bool:
    """Whether the next message of the aggregate was built upon this one."""
    link = link_of(message)
    following, _ = await reader.page(message.subject, message.sequence, 1)
    return bool(following) and link is not None and bool(link_after(link, following[0]))
