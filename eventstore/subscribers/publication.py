"""Publications: an event on its public subject, written by the feed and read by subscribers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from eventstore.client.protocol import header_lines
from eventstore.errors import InvalidHeader
from eventstore.jetstream.publish import Draft
from eventstore.jetstream.vocabulary import SERVER_HEADERS
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import NO_KEYS, PERSONAL, Keys, seal, subjects_in, unseal
from eventstore.messages.envelope import Envelope, EventHeaders, derive_id
from eventstore.messages.event_lines import APPEND_ONLY
from eventstore.messages.events import RecordedEvent, StoredEvent, UnreadEvent
from eventstore.messages.headers import POSITION, Header, position_of
from eventstore.messages.subjects import Subject

PART = "X-Event-Part"
"""The header that numbers the parts of a logged event that is upcast to several, from 1 for the
second."""

PART_OF = "X-Event-Part-Of"
"""The header with the id of the logged event, if a part has an id of its own."""


def publication(event: RecordedEvent, codec: Codec, keys: Keys = NO_KEYS) -> Draft:
    """A recorded event as it is published: all its own headers, its bytes, and its position.

    Only headers for the log's stream (expected sequences, batch headers) are left out, because the
    event stream would act on them, too.

    An event of an older schema is published upcast: with its current type, version and data, and
    without the chain value, which covers the stored form. Its parts except the first have ids of
    their own, derived from the event's. Personal data are published encrypted, as stored; those of
    an upcast event are encrypted again with `keys`, and forgotten if their subject is.
    """
    subject = codec.subjects.event(event.aggregate, type(event.data).__action__)
    if not event.is_upcast:
        return Draft(subject, _published_lines(event), event.payload, event.type)
    headers = _upcast_headers(_published_headers(event), event)
    payload = codec.encode(event.data)
    fields = codec.personal_fields(type(event.data))
    payload, headers = seal(event.data, payload, headers, fields, keys, forgotten="replace")
    return Draft.of(subject, headers, payload, event.type)


def stored_publication(event: UnreadEvent, codec: Codec) -> Draft | None:
    """An event that cannot be read, as stored, for subscribers to read once they can.

    None if its subject is not known, because it may be of several types or of none.
    """
    if event.types is None or len(event.types) != 1:
        return None
    (cls,) = event.types
    subject = codec.subjects.event(event.aggregate, cls.__action__)
    return Draft(subject, _published_lines(event), event.payload, event.type)


def _published_lines(event: StoredEvent) -> str:
    """The lines of the headers of an event that is published as stored."""
    if not isinstance(event.headers, EventHeaders):
        return header_lines(_published_headers(event))
    # Those that a pattern has matched need no check.
    own = [f"{name}: {each}\r\n" for name, each in event.headers.items() if name not in APPEND_ONLY]
    return f"{''.join(own)}{POSITION}: {event.position}\r\n"


def _published_headers(event: StoredEvent) -> dict[str, str]:
    headers = {
        name: value
        for name, value in event.headers.items()
        if not name.startswith(SERVER_HEADERS) or name == Header.MESSAGE_ID
    }
    headers[POSITION] = str(event.position)
    return headers


def _upcast_headers(headers: dict[str, str], event: RecordedEvent) -> dict[str, str]:
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
    """Decode what `publication` made, in this or an older program; usually one event.

    Parts have their numbers and ids of the log. Raises `InvalidMessage`, naming the problem.
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
    # First checked and decrypted: encryption is bound to the id under which it was published.
    Envelope.from_headers(headers)
    clear = unseal(payload, headers, keys) if PERSONAL in headers else payload
    if not (headers[PART].isdecimal() and len(headers[PART]) < 10):
        raise InvalidHeader(PART, f"is {headers[PART][:80]!r}, not a number")
    own = headers.get(PART_OF, "")
    logged = {name: value for name, value in headers.items() if name != PERSONAL}
    logged |= {Header.EVENT_ID: own, Header.MESSAGE_ID: own}
    events = codec.recorded(history, logged, clear, position)
    first = int(headers[PART])
    return [
        msgspec.structs.replace(event, part=first + event.part, payload=payload) for event in events
    ]


def data_subjects(events: Iterable[RecordedEvent], codec: Codec) -> set[str]:
    """The data subjects whose keys publishing these events needs; raises `InvalidPayload`."""
    subjects: set[str] = set()
    if codec.has_personal():
        for event in events:
            if event.is_upcast:
                fields = codec.personal_fields(type(event.data))
                subjects |= subjects_in(event.data, fields, event.aggregate_id)
    return subjects
