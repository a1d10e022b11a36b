"""A subscriber's place on the event stream: a durable consumer, and where it begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from eventstore.client.client import Client
from eventstore.errors import EventStoreError, NoResponders, PermissionDenied, StreamMissing
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.topology import ConsumerSpec, declare_consumer
from eventstore.messages.envelope import position_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.types import Event

__all__ = ["EventsGone", "Start", "check_consumer", "declare_subscriber", "event_filter"]

Start = Literal["all", "new"] | int
"""Where a new subscriber begins: with all events that the event stream still has, with what is
acknowledged from now on, or after a position of the log.

"new" is after the log's last position at the time, so that what the feed publishes later, though it
was acknowledged before, is left out. Where the user may not ask for that position, as from another
account, "new" is what the feed publishes from now on."""

_START_AFTER = "start-after"  # kept with the consumer, for all processes and all their starts


class EventsGone(EventStoreError):
    """The event stream no longer has all events after the position to start at.

    `position` was asked for, `first` is the position of the first event that is left.
    """

    code = "events_gone"

    def __init__(self, stream: str, position: int, first: int) -> None:
        super().__init__(
            f"stream {stream} begins at position {first} of the log; the events from "
            f"{position + 1} on are only in the log itself"
        )
        self.position = position
        self.first = first


def event_filter(subjects: Subjects, types: Iterable[type[Event]] | None) -> dict[str, Any]:
    """The consumer's setting that lets through these types, or all."""
    if types is None:
        return {"filter_subject": subjects.filter("event")}
    wanted = sorted({subjects.event(each.__aggregate__, each.__action__) for each in types})
    return {"filter_subject": wanted[0]} if len(wanted) == 1 else {"filter_subjects": wanted}


async def declare_subscriber(
    client: Client, subjects: Subjects, name: str, settings: dict[str, Any], start: Start
) -> int:
    """Create the durable consumer `name`, or check the one there is, whose place is kept.

    Returns the position of the log up to which nothing is for this subscriber: what it started
    after when it was new. The feed may publish such events after the consumer was created.

    Raises `EventsGone` (a new one only), `StreamDrift`, `StreamMissing` and `ClientError`.
    """
    stream = subjects.event_stream
    is_new = await find_consumer(client, stream, name) is None
    initial = await _start(client, subjects, start) if is_new else {}
    declared = await declare_consumer(client, ConsumerSpec(stream, name, settings, initial))
    return int(declared.config.get("metadata", {}).get(_START_AFTER, 0))


async def check_consumer(client: Client, subjects: Subjects, name: str) -> None:
    """Raise `StreamMissing` where the subscriber's consumer is not there; raises `ClientError`."""
    stream = subjects.event_stream
    if await find_consumer(client, stream, name) is None:
        raise StreamMissing(
            f"consumer {name} of stream {stream} was deleted, and with it how far this "
            "subscriber had come; the next start begins anew"
        )


async def _start(client: Client, subjects: Subjects, start: Start) -> dict[str, Any]:
    after = await _end_of_log(client, subjects) if start == "new" else start
    if not isinstance(after, int):
        return {"deliver_policy": after}
    sequence = await _Search(client, subjects).first_after(after)
    return {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": sequence,
        "metadata": {_START_AFTER: str(after)},
    }


async def _end_of_log(client: Client, subjects: Subjects) -> Start:
    """The log's last position; "new" where this user cannot ask for it."""
    try:
        return (await stream_info(client, subjects.log_stream)).state.last_seq
    except (PermissionDenied, NoResponders, StreamMissing):  # its account has the events only
        return "new"


class _Search:
    """Looks on the event stream for a position of the log."""

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
        if first is not None and (found := _position(first)) > position + 1:
            raise EventsGone(self._stream, position, found)
        while low < high:
            middle = (low + high) // 2
            event = await self._event_from(middle)
            if event is None or _position(event) > position:
                high = middle
            else:
                low = event.sequence + 1
        return low

    async def _event_from(self, sequence: int) -> StoredMessage | None:
        """The first event from the log that stands at a sequence or after it."""
        while True:
            message = await self._reader.leader_next(self._filter, sequence - 1)
            if message is None or position_of(message.headers) is not None:
                return message
            sequence = message.sequence + 1


def _position(message: StoredMessage) -> int:
    position = position_of(message.headers)
    assert position is not None  # noqa: S101  # only such are looked at
    return position
