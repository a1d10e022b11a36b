"""Patterns of header lines in a fixed order, each with a legal value.

A pattern is all rules for the headers at once, so that what it matches needs no further check.
Lines in any other order, with other names or with illegal values do not match, and are read header
by header, which tells what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime

from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.headers import (
    EXPECTED_VERSION,
    ID_DERIVED,
    PROCESS,
    REPLY_TO,
    RULES,
    UUID,
    Header,
)

ENVELOPE = (
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
)
"""The headers that begin every message which this library writes, in their order."""

TIMESTAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
"""Matches a time as this library writes it."""

_NUMBER = "0|[1-9][0-9]{0,17}"
_VISIBLE = "[!-~]"
_VALUES = {name: rule.pattern for name, (rule, _) in RULES.items()} | {
    Header.TIMESTAMP: TIMESTAMP,
    Header.MESSAGE_ID: r"\1",  # the first of the envelope
    PERSONAL: f"{_VISIBLE}(?:[ -~]*{_VISIBLE})?",
    REPLY_TO: f"{_VISIBLE}+",
    EXPECTED_VERSION: _NUMBER,
    ID_DERIVED: f"{_VISIBLE}+",
    PROCESS: f"{_VISIBLE}+",
    NatsHeader.BATCH_ID: UUID.pattern,
    NatsHeader.BATCH_SEQUENCE: _NUMBER,
    NatsHeader.BATCH_COMMIT: "1",
    NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE: _NUMBER,
}


def block_of(names: Iterable[str], *, may_lack: Collection[str]) -> re.Pattern[str]:
    """Matches the lines of these headers after `NATS/1.0`, with a group for each value."""
    lines = (_line(name, may_lack=name in may_lack) for name in names)
    return re.compile(r"NATS/1\.0\r\n" + "".join(lines))


def _line(name: str, *, may_lack: bool) -> str:
    line = rf"{re.escape(name)}: ({_VALUES[name]})\r\n"
    return f"(?:{line}|)" if may_lack else line


def is_usual(own: str, correlation_id: str, causation_id: str, timestamp: str) -> bool:
    """What a pattern cannot tell of an envelope: a root's ids are equal, and the time exists."""
    if (causation_id == own) != (correlation_id == own):
        return False
    try:
        datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    return True
