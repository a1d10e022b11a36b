"""A subscriber's durable consumer on the event stream, and the position at which it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from eventstore.client.client import Client
from eventstore.errors import EventStoreError, NoResponders, PermissionDenied, StreamMissing
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.topology import ConsumerSpec, declare_consumer
from eventstore.messages.headers import position_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.types import Event

Start = Literal["all", "new"] | int
"""Where a new subscriber starts: with all events that the event stream still has, with those that
are acknowledged from now on, or after a position of the log.

"new" is after the log's last position at the time, which excludes events that were acknowledged
before and are published later. If the user may not read that position, as from another account,
"new" is what the feed publishes from now on."""

_START_AFTER = "start-after"  # stored with the consumer, for all processes and restarts


class EventsGone(EventStoreError, code="events_gone"):
    """The event stream no longer has all events after the position to start at.

    `position` was requested, `first` is the position of the first event that is left.
    """

    def __init__(self, stream: str, position: int, first: int) -> None:
        super().__init__(
            f"stream {stream} begins at position {first} of the log; the events from position "
            f"{position + 1} on are only in the log itself"
        )
        self.position = position
        self.first = first


def event_filter(subjects: Subjects, types: Iterable[type[Event]] | None) -> dict[str, Any]:
    """The consumer's filter for these event types, or for all."""
    if types is None:
        return {"filter_subject": subjects.filter("event")}
    filters = sorted({subjects.event(each.__aggregate__, each.__action__) for each in types})
    return {"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": filters}


async def declare_subscriber(
    client: Client, subjects: Subjects, name: str, settings: dict[str, Any], start: Start
) -> int:
    """Create the durable consumer `name`, or check the existing one, which keeps its position.

    Returns the position of the log after which the subscriber started when it was new: events up to
    there are not for it, although the feed may publish them after the consumer was created.

    Raises `EventsGone` (a new one only), `StreamDrift`, `StreamMissing` and `ClientError`.
    """
    stream = subjects.event_stream
    is_new = await find_consumer(client, stream, name) is None
    initial = await _start(client, subjects, start) if is_new else {}
    declared = await declare_consumer(client, ConsumerSpec(stream, name, settings, initial))
    return int(declared.config.get("metadata", {}).get(_START_AFTER, 0))


async def check_consumer(client: Client, subjects: Subjects, name: str) -> None:
    """Raise `StreamMissing` if the subscriber's consumer does not exist; raises `ClientError`."""
    stream = subjects.event_stream
    if await find_consumer(client, stream, name) is None:
        raise StreamMissing(
            f"consumer {name} of stream {stream} was deleted, and with it this subscriber's "
            "position; the next start begins from scratch"
        )


async def _start(client: Client, subjects: Subjects, start: Start) -> dict[str, Any]:
    after = await _end_of_log(client, subjects) if start == "new" else start
    if not isinstance(after, int):
        return {"deliver_policy": after}
    sequence = await _first_after(client, subjects, after)
    return {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": sequence,
        "metadata": {_START_AFTER: str(after)},
    }


async def _end_of_log(client: Client, subjects: Subjects) -> Start:
    """The log's last position; "new" if this user cannot read it."""
    try:
        return (await stream_info(client, subjects.log_stream)).state.last_seq
    except (PermissionDenied, NoResponders, StreamMissing):  # its account has the events only
        return "new"


async def _first_after(client: Client, subjects: Subjects, position: int) -> int:
    """The event stream's sequence of the first event after a position of the log.

    Raises `EventsGone` and `StreamMissing`.
    """
    stream = subjects.event_stream
    reader = DirectReader(client, stream)

    async def event_from(sequence: int) -> tuple[int, int] | None:
        """Sequence and position of the first event from the log at a sequence or after it."""
        while (
            found := await reader.leader_next(subjects.filter("event"), sequence - 1)
        ) is not None:
            sequence = found.sequence + 1
            if (at := position_of(found.headers)) is not None:
                return found.sequence, at
        return None

    state = (await stream_info(client, stream)).state
    low, high = max(state.first_seq, 1), state.last_seq + 1
    first = await event_from(low)
    if first is not None and first[1] > position + 1:
        raise EventsGone(stream, position, first[1])
    while low < high:
        middle = (low + high) // 2
        event = await event_from(middle)
        if event is None or event[1] > position:
            high = middle
        else:
            low = event[0] + 1
    return low
