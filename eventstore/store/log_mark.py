"""Log marks: a position of the log and what is there, by which a log that went back is noticed.

A log that was restored from an older copy, or that has lost its end, is the same stream with the
same name. Positions do not tell: they are used again. So whoever keeps a position keeps what was
there, too, and compares it before going on from it.
"""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from msgspec import Struct

from eventstore.client.client import Client
from eventstore.errors import LogDiverged
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.envelope import format_timestamp, instant
from eventstore.messages.events import LogEvent
from eventstore.messages.headers import Header, legal_value
from eventstore.messages.text import bounded

_UNKNOWN = "-"
_FIELDS = 3
_MAX_TEXT = 80
_position = attrgetter("position")
_LAGS = (0.05, 0.1, 0.2, 0.4, 0.8)


class LogMark(Struct, frozen=True, gc=False):
    """What is at a position of the log: the event's id and chain value.

    A message without them, which is foreign, has "-" as id, and a digest of its time and payload.
    Either may be "" if it is not known. As text, it has at most 122 characters.
    """

    position: int
    event_id: str
    chain: str

    @classmethod
    def of(cls, message: StoredMessage) -> LogMark:
        """The mark of a stored message."""
        headers = message.headers
        event_id = legal_value(headers, Header.EVENT_ID)
        chain = legal_value(headers, Header.CHAIN)
        if event_id is None or chain is None:
            return cls(message.sequence, _UNKNOWN, _digest(message))
        return cls(message.sequence, event_id, chain)

    @classmethod
    def of_last(cls, events: Sequence[LogEvent], until: int) -> LogMark | None:
        """The mark of the last of some events up to a position; None if there is none.

        The events are in the order of the log.
        """
        count = len(events)
        if not count or events[-1].position > until:
            count = bisect_right(events, until, key=_position)
        return cls._of_event(events[count - 1]) if count else None

    @classmethod
    def _of_event(cls, event: LogEvent) -> LogMark | None:
        chain = event.envelope.chain
        return None if chain is None else cls(event.position, event.envelope.identity.id, chain)

    @classmethod
    def at(cls, position: int) -> LogMark:
        """The mark of a position at which there was something."""
        return cls(position, "", "")

    def fits(self, message: StoredMessage) -> bool:
        """Whether a message at its position may be what was there."""
        found = LogMark.of(message)
        return self.event_id in ("", found.event_id) and self.chain in ("", found.chain)

    @classmethod
    def read(cls, text: str | None) -> LogMark | None:
        """The mark that `str` has made a text of; None for anything else."""
        fields = (text or "").split(" ")
        if len(fields) != _FIELDS or not (fields[0].isascii() and fields[0].isdecimal()):
            return None
        return cls(int(fields[0]), fields[1], fields[2])

    def __str__(self) -> str:
        return f"{self.position} {self.event_id} {self.chain}"

    @property
    def described(self) -> str:
        """What was there, for an error text."""
        if self.event_id in ("", _UNKNOWN):
            return "a message" if self.event_id else "some event"
        return f"event {self.event_id}"


async def find_differing(
    client: Client, reader: DirectReader, mark: LogMark
) -> StoredMessage | int | None:
    """None if the log still has what a mark says; else what is there, or where the log ends.

    Asks the leader, and waits up to 1.6 seconds for one that was just elected to catch up. Raises
    `StreamMissing` and `ClientError`.
    """
    for delay in (*_LAGS, 0.0):
        found = await reader.at(mark.position, leader=True) if mark.position else None
        if not mark.position or (found is not None and mark.fits(found)):
            return None
        if found is not None:
            return found
        info = await stream_info(client, reader.stream)
        if info.replicas == 1 or not delay:
            break
        await asyncio.sleep(delay)
    return info.state.last_seq


async def check_mark(
    client: Client, reader: DirectReader, mark: LogMark, seen_by: str = "this process"
) -> None:
    """Raise `LogDiverged` unless the log still has what a mark says; else as `find_differing`."""
    found = await find_differing(client, reader, mark)
    if found is not None:
        raise diverged(reader.stream, mark, found, seen_by)


def diverged(stream: str, mark: LogMark, found: StoredMessage | int, seen_by: str) -> LogDiverged:
    """The error of a log that has something else than a mark says: a message, or its end."""
    if isinstance(found, int):
        now = f"now the log ends at position {found}"
    else:
        now = f"now there is {LogMark.of(found).described}{_when(found)}"
    return LogDiverged(stream, mark.position, mark.described, now, seen_by)


def _when(message: StoredMessage) -> str:
    kind = bounded(message.headers.get(Header.EVENT_TYPE, message.subject), _MAX_TEXT)
    if not message.time:
        return f" ({kind})"
    return f" ({kind}, recorded {format_timestamp(instant(message.time))})"


def _digest(message: StoredMessage) -> str:
    # Illegal subjects and headers are another text in each of the server's answers.
    return hashlib.sha256(b"%d %s" % (message.time, message.payload)).hexdigest()
