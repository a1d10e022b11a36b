"""The standard headers: their names, and the rules for their values."""

from __future__ import annotations

import re
from collections.abc import Mapping

from eventstore.errors import InvalidHeader
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.opaque_headers import OPAQUE, check_described
from eventstore.messages.subjects import AGGREGATE_ID, NAME

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class Header:
    """The names of the standard headers."""

    EVENT_ID = "X-Event-ID"
    EVENT_TYPE = "X-Event-Type"
    CORRELATION_ID = "X-Correlation-ID"
    CAUSATION_ID = "X-Causation-ID"
    AGGREGATE_ID = "X-Aggregate-ID"
    TIMESTAMP = "X-Timestamp"
    DOMAIN = "X-Domain"
    AGGREGATE_VERSION = "X-Aggregate-Version"
    SCHEMA_VERSION = "X-Schema-Version"
    CHAIN = "X-Chain"
    ACTOR = "X-Actor"
    TRACEPARENT = "traceparent"
    CONTENT_TYPE = "Content-Type"
    MESSAGE_ID = NatsHeader.MESSAGE_ID


JSON = "application/json"
"""The content type of every message that this library writes."""

AUTHENTICATED_AS = "X-Authenticated-As"
"""The header of events that names the sender of their command, according to the server."""

POSITION = "X-Position"
"""The header that holds an event's position in the log."""

REPLY_TO = "X-Reply-To"
"""The header that names the inbox to which the outcome of a command is to be sent."""

EXPECTED_VERSION = "X-Expected-Version"
"""The header of commands that are rejected unless their aggregate has this version."""

DUE = "X-Due"
"""The header of a timer, and of its command, that holds when it is due."""

ID_DERIVED = "X-ID-Derived"
"""The header of commands sent by a handler, which may have other data under the same id."""

PROCESS = "X-Process"
"""The header of commands that a process has sent: its kind and its key, to learn a rejection."""

COMMAND_DIGEST = "X-Command-Digest"
"""The header of events and outcomes that distinguishes commands with the same id."""

NO_COMMAND = "none"
"""The digest of a fact that has a cause: it was not decided by a command."""

REQUIRED = (
    Header.EVENT_ID,
    Header.EVENT_TYPE,
    Header.CORRELATION_ID,
    Header.CAUSATION_ID,
    Header.TIMESTAMP,
    Header.DOMAIN,
)
"""The headers that every envelope has."""

_VERSION = re.compile(r"0|[1-9][0-9]{0,17}")
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # control characters and lone surrogates
_EDGE = rf"[^\s{_UNPRINTABLE}]"
RULES: dict[str, tuple[re.Pattern[str], str]] = {
    Header.EVENT_ID: (UUID, "a UUID in lower-case canonical form"),
    Header.CORRELATION_ID: (UUID, "a UUID in lower-case canonical form"),
    Header.CAUSATION_ID: (UUID, "a UUID in lower-case canonical form"),
    Header.EVENT_TYPE: (re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}"), "a type's name"),
    Header.TIMESTAMP: (RFC_3339, "an RFC 3339 time"),
    Header.DOMAIN: (NAME, "a domain's name"),
    Header.AGGREGATE_ID: (AGGREGATE_ID, "1 to 128 of A-Z, a-z, 0-9, '_' and '-'"),
    Header.AGGREGATE_VERSION: (re.compile(r"[1-9][0-9]{0,17}"), "a whole number from 1"),
    Header.SCHEMA_VERSION: (re.compile(r"[1-9][0-9]{0,5}"), "a whole number from 1 to 999999"),
    Header.CHAIN: (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    Header.ACTOR: (
        re.compile(rf"{_EDGE}(?:[^{_UNPRINTABLE}]{{0,254}}{_EDGE})?"),
        "1 to 256 printable characters without space around them",
    ),
    AUTHENTICATED_AS: (
        re.compile(rf"{_EDGE}(?:[^{_UNPRINTABLE}]{{0,510}}{_EDGE})?"),
        "1 to 512 printable characters without space around them",
    ),
    COMMAND_DIGEST: (re.compile(r"none|[0-9a-f]{16}(?:-[0-9a-f]{32})?"), "a command's digest"),
    Header.TRACEPARENT: (
        re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
        "a W3C trace parent",
    ),
    Header.CONTENT_TYPE: (re.compile(r"application/json"), "application/json"),
}
"""What is legal in an envelope's headers, and how that is called."""


def legal_value(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a standard header if it is present and legal by itself; None if not."""
    value = headers.get(name)
    pattern, _ = RULES[name]
    return value if value is not None and pattern.fullmatch(value) else None


_TYPED = {Header.EVENT_TYPE: "OpaqueEvent", Header.CONTENT_TYPE: JSON}
"""What replaces the values in an opaque event's headers that have rules of their own."""

# All rules as one pattern over the values in their order, a line each, so that the usual case, all
# legal, takes one match. No legal value holds a line break.
_ALL_LEGAL = re.compile(
    "\n".join(
        f"={pattern.pattern}" if name in REQUIRED else f"(?:={pattern.pattern})?"
        for name, (pattern, _) in RULES.items()
    )
)


def check_envelope(headers: Mapping[str, str]) -> None:
    """Raise `InvalidHeader`, naming the header, unless all of an envelope's headers are legal."""
    if OPAQUE in headers:
        check_described(headers)
        headers = {**headers, **_TYPED}
    values = ["=" + headers[name] if name in headers else "" for name in RULES]
    if not _ALL_LEGAL.fullmatch("\n".join(values)):
        _refuse(headers)
    _check_identity(headers)


def _refuse(headers: Mapping[str, str]) -> None:
    """Raise `InvalidHeader` for the first header that is not legal."""
    for name in REQUIRED:
        if name not in headers:
            raise InvalidHeader(name, "is missing")
    for name, (pattern, meaning) in RULES.items():
        value = headers.get(name)
        if value is not None and not pattern.fullmatch(value):
            raise InvalidHeader(name, f"is {value[:80]!r}, not {meaning}")


def _check_identity(headers: Mapping[str, str]) -> None:
    own = headers[Header.EVENT_ID]
    if headers.get(Header.MESSAGE_ID, own) != own:
        raise InvalidHeader(
            Header.MESSAGE_ID, f"is {headers[Header.MESSAGE_ID][:80]!r}, not the {Header.EVENT_ID}"
        )
    if (headers[Header.CAUSATION_ID] == own) != (headers[Header.CORRELATION_ID] == own):
        raise InvalidHeader(
            Header.CAUSATION_ID,
            f"and {Header.CORRELATION_ID} disagree: a root's three ids are equal, no other's are",
        )


def expected_version_of(headers: Mapping[str, str]) -> int | None:
    """The version a command expects; None if it expects none, and `InvalidHeader` if illegal."""
    text = headers.get(EXPECTED_VERSION)
    if text is None:
        return None
    if not _VERSION.fullmatch(text):
        raise InvalidHeader(EXPECTED_VERSION, f"is {text[:80]!r}, not a whole number from 0")
    return int(text)


def position_of(headers: Mapping[str, str]) -> int | None:
    """The log position of a published event; None if it has none."""
    text = headers.get(POSITION, "")
    return int(text) if text.isdecimal() and len(text) < 20 else None
