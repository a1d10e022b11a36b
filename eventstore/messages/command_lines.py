"""Header lines of a command in the order in which the client writes them, read by one pattern."""

from __future__ import annotations

from eventstore.messages.envelope import Envelope, EventHeaders, Identity
from eventstore.messages.header_patterns import ENVELOPE, block_of, is_usual
from eventstore.messages.headers import EXPECTED_VERSION, ID_DERIVED, PROCESS, REPLY_TO, Header

_OPTIONAL = (Header.ACTOR, Header.TRACEPARENT, REPLY_TO, EXPECTED_VERSION, ID_DERIVED, PROCESS)
_NAMES = (*ENVELOPE, *_OPTIONAL)
_INDEXES = {name: index for index, name in enumerate(_NAMES)}

_match = block_of(_NAMES, may_lack=_OPTIONAL).fullmatch


def read_command_lines(block: bytes) -> EventHeaders | None:
    """The headers of a block; None if they are not a command's, all legal and in the usual order.

    Headers that only a worker may set are not among them.
    """
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    found = _match(text, 0, len(text) - 2) if text.endswith("\r\n\r\n") else None
    if found is None:
        return None
    values = found.groups()
    own, of_type, correlation_id, causation_id, timestamp, domain, version, _, _, *rest = values
    if not is_usual(own, correlation_id, causation_id, timestamp):
        return None
    aggregate_id, actor, traceparent, *_ = rest
    envelope = Envelope(
        identity=Identity(own, correlation_id, causation_id),
        type=of_type,
        domain=domain,
        timestamp=timestamp,
        aggregate_id=aggregate_id,
        schema_version=int(version),
        actor=actor,
        traceparent=traceparent,
    )
    return EventHeaders(_INDEXES, values, envelope)
