"""Positions of the log, found in the event stream: where a subscriber starts, or has arrived."""

from __future__ import annotations

from typing import Literal

from eventstore.client.client import Client
from eventstore.errors import (
    EventsGone,
    NoResponders,
    PermissionDenied,
    StreamMissing,
)
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import position_of
from eventstore.messages.subjects import Subjects

Start = Literal["all", "new"] | int
"""Where a new subscriber starts: with all events that the event stream still has, with those that
are acknowledged from now on, or after a position of the log.

"new" is after the log's last position at the time, which excludes events that were acknowledged
before and are published later. If the user may not read that position, as from another account,
"new" is what the feed publishes from now on."""


async def log_end(client: Client, subjects: Subjects) -> int | None:
    """The log's last position; None if this user, as from another account, cannot read it."""
    try:
        return (await stream_info(client, subjects.log_stream)).state.last_seq
    except (PermissionDenied, NoResponders, StreamMissing):  # its account has the events only
        return None


class PositionSearch:
    """Finds positions of the log in the event stream; reads from its leader."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._stream = subjects.event_stream
        self._filter = subjects.filter("event")
        self._reader = DirectReader(client, self._stream)

    async def first_after(self, position: int) -> int:
        """The sequence of the first event after it; raises `EventsGone`, `StreamMissing`."""
        info = await stream_info(self._client, self._stream)
        low = max(info.state.first_seq, 1)
        high = info.state.last_seq + 1
        first = await self._event_from(low)
        if first is not None and (left := _position(first)) > position + 1:
            raise EventsGone(self._stream, position, left)
        while low < high:
            middle = (low + high) // 2
            event = await self._event_from(middle)
            if event is None or _position(event) > position:
                high = middle
            else:
                low = event.sequence + 1
        return low

    async def last(self) -> int:
        """The position of the last published event; 0 if the event stream does not have it."""
        sequence = (await stream_info(self._client, self._stream)).state.last_seq
        while sequence:
            message = await self._reader.leader_next(self._filter, sequence - 1)
            if message is None:
                return 0
            if (position := position_of(message.headers)) is not None:
                return position
            sequence -= 1
        return 0

    async def before(self, sequence: int) -> int:
        """The position up to which all events are published before a sequence of the stream."""
        event = await self._event_from(sequence)
        return await self.last() if event is None else _position(event) - 1

    async def _event_from(self, sequence: int) -> StoredMessage | None:
        """The first event from the log at a sequence or after it."""
        while True:
            message = await self._reader.leader_next(self._filter, sequence - 1)
            if message is None or position_of(message.headers) is not None:
                return message
            sequence = message.sequence + 1


def _position(message: StoredMessage) -> int:
    position = position_of(message.headers)
    assert position is not None  # noqa: S101  # others are skipped
    return position
