"""The hash chain as `docs/wire.md` describes it, for a program that does not use the library."""

from __future__ import annotations

import hashlib

START = "0" * 64

_CHAINED = (
    *("X-Event-ID", "X-Event-Type", "X-Correlation-ID", "X-Causation-ID", "X-Aggregate-ID"),
    *("X-Aggregate-Version", "X-Schema-Version", "X-Timestamp", "X-Domain", "X-Actor"),
    *("traceparent", "Content-Type"),
)


def chain_value(previous: str, subject: str, headers: dict[str, str], payload: bytes) -> str:
    """The value that the event's `X-Chain` has to be."""
    lines = [previous, subject, *(headers.get(name, "") for name in _CHAINED)]
    if "X-Authenticated-As" in headers:
        lines.append(f"X-Authenticated-As: {headers['X-Authenticated-As']}")
    text = "".join(f"{line}\n" for line in lines)
    return hashlib.sha256(text.encode() + payload).hexdigest()
