"""Header lines of an event in the order in which the store writes them, read by one pattern.

The pattern is all rules for an envelope's headers at once, so that what it matches needs no further
check. Lines in any other order, with other names or with illegal values do not match, and are read
header by header, which tells what is wrong with them.
"""

from __future__ import annotations

import re
from datetime import datetime
from itertools import compress

from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.envelope import Envelope, EventHeaders, Identity
from eventstore.messages.headers import AUTHENTICATED_AS, COMMAND_DIGEST, RULES, UUID, Header

_OPTIONAL = (Header.ACTOR, AUTHENTICATED_AS, COMMAND_DIGEST, Header.TRACEPARENT, PERSONAL)
_BATCH = (
    NatsHeader.BATCH_ID,
    NatsHeader.BATCH_SEQUENCE,
    NatsHeader.BATCH_COMMIT,
    NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE,
)
_NAMES = (
    Header.EVENT_ID,
    Header.EVENT_TYPE,
    Header.CORRELATION_ID,
    Header.CAUSATION_ID,
    Header.TIMESTAMP,
    Header.DOMAIN,
    Header.SCHEMA_VERSION,
    Header.CONTENT_TYPE,
    Header.MESSAGE_ID,
    Header.AGGREGATE_ID,
    *_OPTIONAL,
    Header.AGGREGATE_VERSION,
    Header.CHAIN,
    *_BATCH,
)
_NUMBER = "0|[1-9][0-9]{0,17}"
_VALUES = {name: rule.pattern for name, (rule, _) in RULES.items()} | {
    Header.TIMESTAMP: r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z",
    Header.MESSAGE_ID: r"\1",
    PERSONAL: "[!-~](?:[ -~]*[!-~])?",
    NatsHeader.BATCH_ID: UUID.pattern,
    NatsHeader.BATCH_SEQUENCE: _NUMBER,
    NatsHeader.BATCH_COMMIT: "1",
    NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE: _NUMBER,
}
_MAY_LACK = {*_OPTIONAL, *_BATCH}


def _line(name: str) -> str:
    line = rf"{re.escape(name)}: ({_VALUES[name]})\r\n"
    return f"(?:{line}|)" if name in _MAY_LACK else line


_match = re.compile(r"NATS/1\.0\r\n" + "".join(map(_line, _NAMES))).fullmatch


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
    if (causation_id == own) != (correlation_id == own) or not _is_time(timestamp):
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


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
