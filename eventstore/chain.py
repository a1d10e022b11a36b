"""The chain: a hash over each event and the hash before it, so that no change stays unseen.

Every aggregate has a chain of its own. An event's value is SHA-256 over the value before it, the
subject, the envelope's headers in a fixed order and the payload, each on a line of its own (no
header can hold a line break, and the payload comes last, so no two events read alike).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from eventstore.envelope import Header

__all__ = ["GENESIS", "chain_value"]

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


def chain_value(previous: str, subject: str, headers: Mapping[str, str], payload: bytes) -> str:
    """The chain value of an event: 64 hexadecimal digits.

    `previous` is the value of the same aggregate's event before it, `GENESIS` for the first.
    A header that is absent counts as empty. The header `X-Chain` itself does not count.
    """
    get = headers.get
    text = "\n".join([previous, subject, *[get(name, "") for name in _CHAINED], ""])
    return hashlib.sha256(text.encode() + payload).hexdigest()
