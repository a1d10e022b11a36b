"""An event on its public subject: made from the log by the feed, read back by subscribers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from eventstore.errors import InvalidHeader
from eventstore.jetstream.publish import Draft
from eventstore.jetstream.vocabulary import SERVER_HEADERS
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import NO_KEYS, PERSONAL, Keys, seal, subjects_in, unseal
from eventstore.messages.envelope import (
    POSITION,
    Envelope,
    Header,
    RecordedEvent,
    StoredEvent,
    UnreadEvent,
    derive_id,
    position_of,
)
from eventstore.messages.subjects import Subject

__all__ = [
    "PART",
    "PART_OF",
    "data_subjects",
    "publication",
    "read_publication",
    "stored_publication",
]

PART = "X-Event-Part"
"""The header that numbers the parts of an event of the log that is read as several, from 1 for the
second."""

PART_OF = "X-Event-Part-Of"
"""The header that holds the id of the event in the log, where a part has an id of its own."""


def publication(event: RecordedEvent, codec: Codec, keys: Keys = NO_KEYS) -> Draft:
    """A recorded event as it is published: all its own headers, its bytes, and its position.

    Only what the headers told the log's stream (expected sequences, its place in a batch) is left
    out, because it would mean something to the next stream too.

    An event of an older schema is published as what it is read as: the type, version and data of
    today, without the chain value, which is for what is stored. Its parts but the first have ids
    of their own, derived from the event's. Personal data are published as stored, encrypted; what
    an older event is read as is encrypted anew with `keys`, and forgotten where its subject is.
    """
    headers = _published_headers(event)
    payload = event.payload
    if event.is_upcast:
        headers = _of_today(headers, event)
        payload = codec.encode(event.data)
        fields = codec.personal_fields(type(event.data))
        payload, headers = seal(event.data, payload, headers, fields, keys, forgotten="replace")
    subject = codec.subjects.event(event.aggregate, type(event.data).__action__)
    return Draft(subject, headers, payload, event.type)


def stored_publication(event: UnreadEvent, codec: Codec) -> Draft | None:
    """An event that cannot be read, as it is stored, for subscribers to read once they can.

    None where it is not known on which subject, because it may be of several types or of none.
    """
    if event.types is None or len(event.types) != 1:
        return None
    (cls,) = event.types
    subject = codec.subjects.event(event.aggregate, cls.__action__)
    return Draft(subject, _published_headers(event), event.payload, event.type)


def _published_headers(event: StoredEvent) -> dict[str, str]:
    headers = {
        name: value
        for name, value in event.headers.items()
        if not name.startswith(SERVER_HEADERS) or name == Header.MESSAGE_ID
    }
    headers[POSITION] = str(event.position)
    return headers


def _of_today(headers: dict[str, str], event: RecordedEvent) -> dict[str, str]:
    changed = {
        Header.EVENT_TYPE: event.type,
        Header.SCHEMA_VERSION: str(type(event.data).__schema_version__),
    }
    if event.part:
        own = derive_id(event.id, f"part.{event.part}")
        changed |= {Header.EVENT_ID: own, Header.MESSAGE_ID: own}
        changed |= {PART: str(event.part), PART_OF: event.id}
    headers.pop(Header.CHAIN, None)
    return headers | changed


def read_publication(
    codec: Codec,
    subject: str,
    headers: Mapping[str, str],
    payload: bytes,
    keys: Keys = NO_KEYS,
) -> list[RecordedEvent]:
    """Read what `publication` made, now or in an older program; mostly one event.

    Parts are numbered and named as in the log. Raises `InvalidMessage`, saying what is wrong.
    """
    aggregate = Subject.parse(subject).aggregate
    position = position_of(headers)
    if position is None:
        raise InvalidHeader(POSITION, "is missing: this event does not come from the log")
    if Header.AGGREGATE_ID not in headers:
        raise InvalidHeader(Header.AGGREGATE_ID, "is missing")
    history = codec.subjects.log(aggregate, headers[Header.AGGREGATE_ID])
    if PART not in headers:
        return codec.recorded(history, headers, payload, position, keys)
    # Checked and opened first: what is sealed is bound to the id under which it was published.
    Envelope.from_headers(headers)
    clear = unseal(payload, headers, keys) if PERSONAL in headers else payload
    events = codec.recorded(history, _of_the_log(headers), clear, position)
    first = int(headers[PART])
    return [
        msgspec.structs.replace(event, part=first + event.part, payload=payload) for event in events
    ]


def data_subjects(events: Iterable[RecordedEvent], codec: Codec) -> set[str]:
    """Whose keys it takes to publish these events; raises `InvalidPayload`."""
    subjects: set[str] = set()
    if codec.has_personal():
        for event in events:
            if event.is_upcast:
                fields = codec.personal_fields(type(event.data))
                subjects |= subjects_in(event.data, fields, event.aggregate_id)
    return subjects


def _of_the_log(headers: Mapping[str, str]) -> dict[str, str]:
    own = headers.get(PART_OF, "")
    if not (headers[PART].isdecimal() and len(headers[PART]) < 10):
        raise InvalidHeader(PART, f"is {headers[PART][:80]!r}, not a number")
    clear = {name: value for name, value in headers.items() if name != PERSONAL}
    return clear | {Header.EVENT_ID: own, Header.MESSAGE_ID: own}
