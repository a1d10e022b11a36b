"""Header lines of an event in the order in which the store writes them, read by one pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.envelope import Envelope, EventHeaders, Identity
from eventstore.messages.header_patterns import ENVELOPE, block_of, is_usual
from eventstore.messages.headers import AUTHENTICATED_AS, COMMAND_DIGEST, Header

_OPTIONAL = (Header.ACTOR, AUTHENTICATED_AS, COMMAND_DIGEST, Header.TRACEPARENT, PERSONAL)
APPEND_ONLY = (
    NatsHeader.BATCH_ID,
    NatsHeader.BATCH_SEQUENCE,
    NatsHeader.BATCH_COMMIT,
    NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE,
)
"""The headers that are not an event's own: they were for the log's stream when it was appended."""

_NAMES = (*ENVELOPE, *_OPTIONAL, Header.AGGREGATE_VERSION, Header.CHAIN, *APPEND_ONLY)
_OWN = len(_NAMES) - len(APPEND_ONLY)
_INDEXES = {name: index for index, name in enumerate(_NAMES)}

_PATTERN = block_of(_NAMES, may_lack={*_OPTIONAL, *APPEND_ONLY}).pattern


def event_block(rest: str) -> re.Pattern[str]:
    """Matches the header block of an event whose lines end with what the pattern `rest` matches.

    The headers have to be legal and in the usual order; its groups are for `event_headers`, before
    those of `rest`.
    """
    return re.compile(_PATTERN + rest)


def event_headers(values: Sequence[Any]) -> EventHeaders | None:
    """The headers of an event that `event_block` has matched; None if it is not legal after all."""
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
    ) = values[:_OWN]
    if not is_usual(own, correlation_id, causation_id, timestamp):
        return None
    envelope = Envelope(
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
    return EventHeaders(_INDEXES, values, envelope)
