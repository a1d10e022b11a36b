"""Header lines of an event in the order in which the store writes them, read by one pattern."""

from __future__ import annotations

from itertools import compress

from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.envelope import Envelope, EventHeaders, Identity
from eventstore.messages.header_lines import ENVELOPE, block_of, is_usual
from eventstore.messages.headers import AUTHENTICATED_AS, COMMAND_DIGEST, Header

_OPTIONAL = (Header.ACTOR, AUTHENTICATED_AS, COMMAND_DIGEST, Header.TRACEPARENT, PERSONAL)
_BATCH = (
    NatsHeader.BATCH_ID,
    NatsHeader.BATCH_SEQUENCE,
    NatsHeader.BATCH_COMMIT,
    NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE,
)
_NAMES = (*ENVELOPE, *_OPTIONAL, Header.AGGREGATE_VERSION, Header.CHAIN, *_BATCH)

_match = block_of(_NAMES, may_lack={*_OPTIONAL, *_BATCH}).fullmatch


def read_event_lines(text: str, end: int) -> EventHeaders | None:
    """The headers in the beginning of a header block, up to the end of the last line to be read.

    None if they are not an event's, all legal and in the usual order.
    """
    found = _match(text, 0, end)
    if found is None:
        return None
    values = found.groups()
    (
        own,
        event_type,
        correlation_id,
        causation_id,
        timestamp,
        domain,
        schema_version,
        _,
        _,
        aggregate_id,
        actor,
        authenticated_as,
        digest,
        traceparent,
        _,
        version,
        chain,
        *_,
    ) = values
    if not is_usual(own, correlation_id, causation_id, timestamp):
        return None
    headers = EventHeaders(compress(zip(_NAMES, values, strict=True), values))
    headers.envelope = Envelope(
        identity=Identity(own, correlation_id, causation_id),
        type=event_type,
        domain=domain,
        timestamp=timestamp,
        aggregate_id=aggregate_id,
        schema_version=int(schema_version),
        version=int(version),
        chain=chain,
        actor=actor,
        authenticated_as=authenticated_as,
        command_digest=digest,
        traceparent=traceparent,
    )
    return headers
