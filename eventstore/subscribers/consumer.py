"""A subscriber's place on the event stream: a durable consumer, and where it begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from eventstore.client.api_answers import ConsumerInfo, StreamInfo
from eventstore.client.client import Client
from eventstore.errors import (
    EventStoreError,
    JetStreamError,
    NoResponders,
    PermissionDenied,
    StreamMissing,
)
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.topology import ConsumerSpec, declare_consumer
from eventstore.messages.headers import position_of
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
_CONSUMER_EXISTS = 10148
_NO_STREAM = 10059


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
    if await _found(client, stream, name) is None:
        await _create(client, stream, name, settings | await _start(client, subjects, start))
    await declare_consumer(client, ConsumerSpec(stream, name, settings))
    found = await _found(client, stream, name) or {}
    return int(found.get("metadata", {}).get(_START_AFTER, 0))


async def _create(client: Client, stream: str, name: str, config: dict[str, Any]) -> None:
    request = {"stream_name": stream, "config": {"name": name, **config}, "action": "create"}
    try:
        await client.api(f"CONSUMER.CREATE.{stream}.{name}", request)
    except JetStreamError as error:
        if error.err_code not in (_CONSUMER_EXISTS, _NO_STREAM):  # another process was faster
            raise


async def check_consumer(client: Client, subjects: Subjects, name: str) -> None:
    """Raise `StreamMissing` where the subscriber's consumer is not there; raises `ClientError`."""
    stream = subjects.event_stream
    if await _found(client, stream, name) is None:
        raise StreamMissing(
            f"consumer {name} of stream {stream} was deleted, and with it how far this "
            "subscriber had come; the next start begins anew"
        )


async def _found(client: Client, stream: str, name: str) -> dict[str, Any] | None:
    """The consumer's configuration; None where there is none."""
    try:
        info = await client.api(f"CONSUMER.INFO.{stream}.{name}", answer=ConsumerInfo)
    except JetStreamError as error:
        if error.status == 404:  # no consumer, or no stream, which the declaration will report
            return None
        raise
    return info.config


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
        info = await client.api(f"STREAM.INFO.{subjects.log_stream}", answer=StreamInfo)
    except (PermissionDenied, NoResponders):
        return "new"
    except JetStreamError as error:
        if error.err_code != _NO_STREAM:  # an account of its own, with the events only
            raise
        return "new"
    return info.state.last_seq


class _Search:
    """Looks on the event stream for a position of the log."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._stream = subjects.event_stream
        self._filter = subjects.filter("event")
        self._reader = DirectReader(client, self._stream)

    async def first_after(self, position: int) -> int:
        """The sequence of the first event after it; raises `EventsGone`, `StreamMissing`."""
        await self._reader.check_stream()
        info = await self._client.api(f"STREAM.INFO.{self._stream}", answer=StreamInfo)
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
