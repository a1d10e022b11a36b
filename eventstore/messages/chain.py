"""The hash chain: a hash over each event and the hash before it, which reveals every change.

Every aggregate has a chain of its own. An event's value is SHA-256 over the value before it, the
subject, the envelope's headers in a fixed order and the payload, each on a line of its own (no
header can hold a line break, and the payload comes last, so no two events read alike). Headers that
were added later follow the others with their names, if an event has them, so that the values of
earlier events do not change; so do the mark and the own headers of an opaque event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from eventstore.messages.envelope import Envelope, EventHeaders
from eventstore.messages.headers import AUTHENTICATED_AS, JSON, Header
from eventstore.messages.opaque_headers import OPAQUE, chained_lines

GENESIS = "0" * 64
"""The value before an aggregate's first event."""

_CHAINED = (
    Header.EVENT_ID,
    Header.EVENT_TYPE,
    Header.CORRELATION_ID,
    Header.CAUSATION_ID,
    Header.AGGREGATE_ID,
    Header.AGGREGATE_VERSION,
    Header.SCHEMA_VERSION,
    Header.TIMESTAMP,
    Header.DOMAIN,
    Header.ACTOR,
    Header.TRACEPARENT,
    Header.CONTENT_TYPE,
)

_CHAINED_IF_THERE = (AUTHENTICATED_AS,)


def chain_value(previous: str, subject: str, headers: Mapping[str, str], payload: bytes) -> str:
    """The chain value of an event: 64 hexadecimal digits.

    `previous` is the value of the same aggregate's event before it, `GENESIS` for the first.
    An absent header counts as empty, one of those added later not at all. The header `X-Chain`
    itself does not count.
    """
    if isinstance(headers, EventHeaders):
        return _value_of_event(previous, subject, headers.envelope, payload)
    get = headers.get
    later = [f"{name}: {headers[name]}" for name in _CHAINED_IF_THERE if name in headers]
    if OPAQUE in headers:
        mark = headers[OPAQUE]
        later += [f"{name}: {get(name, '')}" for name in (OPAQUE, *mark.split(" ")[1:])]
    text = "\n".join([previous, subject, *[get(name, "") for name in _CHAINED], *later, ""])
    return hashlib.sha256(text.encode() + payload).hexdigest()


def _value_of_event(previous: str, subject: str, envelope: Envelope, payload: bytes) -> str:
    """The same from an envelope whose headers are as the store writes them."""
    identity = envelope.identity
    text = (
        f"{previous}\n{subject}\n{identity.id}\n{envelope.type}\n{identity.correlation_id}\n"
        f"{identity.causation_id}\n{envelope.aggregate_id}\n{envelope.version}\n"
        f"{envelope.schema_version}\n{envelope.timestamp}\n{envelope.domain}\n"
        f"{chained_optional(envelope.actor, envelope.authenticated_as, envelope.traceparent)}"
    )
    return hashlib.sha256(text.encode() + payload).hexdigest()


def chained_optional(
    actor: str | None,
    authenticated_as: str | None,
    traceparent: str | None,
    content_type: str = JSON,
    opaque: Mapping[str, str] | None = None,
) -> str:
    """The end of what the chain covers of an envelope: the headers that not every event has."""
    later = "" if authenticated_as is None else f"{AUTHENTICATED_AS}: {authenticated_as}\n"
    return f"{actor or ''}\n{traceparent or ''}\n{content_type}\n{later}{chained_lines(opaque)}"
