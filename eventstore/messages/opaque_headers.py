"""The headers of opaque events: the mark, the type, the content type, and those of the caller.

The mark, `X-Opaque: 1 NAME NAME`, names the further headers that belong to the event, so that the
hash chain covers them: its format's version, and their names in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from eventstore.errors import InvalidHeader
from eventstore.jetstream.vocabulary import SERVER_HEADERS

OPAQUE = "X-Opaque"
"""The header that marks an event whose payload the store does not interpret."""

METADATA = "X-Metadata"
"""The header with the metadata of an opaque event, in Base64."""

TYPE = "X-Event-Type"
CONTENT_TYPE = "Content-Type"

_RESERVED_PREFIXES = ("x-", SERVER_HEADERS.lower(), "kv-")
_RESERVED = {CONTENT_TYPE.lower(), "traceparent", "status", "description"}
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # control characters and lone surrogates
_VALUE = re.compile(rf"(?:[^\s{_UNPRINTABLE}](?:[^{_UNPRINTABLE}]*[^\s{_UNPRINTABLE}])?)?")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105  # of a media type
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?: ?;[ -~]*[!-~])?")
_RULES = {
    TYPE: (re.compile(r"[!-~]{1,128}"), "1 to 128 printable ASCII characters without space"),
    CONTENT_TYPE: (_MEDIA_TYPE, "a media type such as application/octet-stream"),
}


def mark_lines(own: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The mark of an event with these headers of its own, and the headers, in order."""
    yield OPAQUE, " ".join(("1", *own))
    yield from own.items()


def opaque_lines(own: Mapping[str, str] | None) -> str:
    """The lines of an opaque event's mark and headers; none of one that is not opaque."""
    if own is None:
        return ""
    return "".join(f"{name}: {value}\r\n" for name, value in mark_lines(own))


def chained_lines(own: Mapping[str, str] | None) -> str:
    """What the chain covers of an opaque event's mark and headers."""
    if own is None:
        return ""
    return "".join(f"{name}: {value}\n" for name, value in mark_lines(own))


def own_headers(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The headers of an opaque event's own; None if it is not opaque.

    Raises `InvalidHeader` if the mark names one that is missing or may not be there.
    """
    mark = headers.get(OPAQUE)
    if mark is None:
        return None
    version, *names = mark.split(" ")
    if version != "1" or len(set(names)) < len(names):
        raise InvalidHeader(OPAQUE, f"is {mark[:80]!r}, not 1 and the names of further headers")
    for name in names:
        if name not in headers:
            raise InvalidHeader(name, f"is missing, and {OPAQUE} names it")
    own = {name: headers[name] for name in names}
    check_own(own)
    return own


def check_own(own: Mapping[str, str]) -> None:
    """Raise `InvalidHeader` for a header that an opaque event may not have of its own."""
    if len({name.lower() for name in own}) < len(own):
        raise InvalidHeader(", ".join(own)[:80], "repeat a name: upper and lower case are the same")
    for name, value in own.items():
        if name != METADATA:
            _check_name(name)
        if not (isinstance(value, str) and _VALUE.fullmatch(value)):
            raise InvalidHeader(
                name, "has a value that is no text of printable characters without space around it"
            )


def _check_name(name: str) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise InvalidHeader(f"{name!r:.80}", "has a name that is not allowed")
    if name.lower().startswith(_RESERVED_PREFIXES) or name.lower() in _RESERVED:
        raise InvalidHeader(
            name,
            f"is reserved, as are all that begin with X- or {SERVER_HEADERS}: use another name",
        )


def check_described(headers: Mapping[str, str]) -> None:
    """Raise `InvalidHeader` unless type and content type are those of an opaque event."""
    for name, (pattern, meaning) in _RULES.items():
        value = headers.get(name)
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            raise InvalidHeader(name, f"is {value!r:.80}, not {meaning}")
