"""An event on its public subject: made from the log by the feed, read back by subscribers."""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.codec import Codec
from eventstore.envelope import Header, RecordedEvent
from eventstore.errors import InvalidHeader
from eventstore.publishing import Draft
from eventstore.subjects import Subject, Subjects

__all__ = ["POSITION", "position_of", "publication", "read_publication"]

POSITION = "X-Position"
"""The header that holds an event's position in the log."""

_SERVERS_OWN = "Nats-"


def publication(event: RecordedEvent, subjects: Subjects) -> Draft:
    """A recorded event as it is published: all its own headers, its bytes, and its position.

    Only what the headers told the log's stream (expected sequences, its place in a batch) is left
    out, because it would mean something to the next stream too.
    """
    headers = {
        name: value
        for name, value in event.headers.items()
        if not name.startswith(_SERVERS_OWN) or name == Header.MESSAGE_ID
    }
    headers[POSITION] = str(event.position)
    subject = subjects.event(event.aggregate, type(event.data).__action__)
    return Draft(subject, headers, event.payload, event.type)


def position_of(headers: Mapping[str, str]) -> int | None:
    """The log position that a published event carries; None where it carries none."""
    text = headers.get(POSITION, "")
    return int(text) if text.isdecimal() and len(text) < 20 else None


def read_publication(
    codec: Codec, subject: str, headers: Mapping[str, str], payload: bytes
) -> RecordedEvent:
    """Read what `publication` made; raises `InvalidMessage`, saying what is wrong with it."""
    aggregate = Subject.parse(subject).aggregate
    position = position_of(headers)
    if position is None:
        raise InvalidHeader(POSITION, "is missing: this event does not come from the log")
    if Header.AGGREGATE_ID not in headers:
        raise InvalidHeader(Header.AGGREGATE_ID, "is missing")
    history = codec.subjects.log(aggregate, headers[Header.AGGREGATE_ID])
    return codec.recorded(history, headers, payload, position)
