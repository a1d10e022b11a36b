"""Making untrusted text safe to show: it can neither control a terminal nor deceive a reader.

Escaped are control characters (C0, DEL, C1), line and paragraph separators, characters that change
the direction of text, zero-width characters, and lone surrogates.
"""

from __future__ import annotations

import logging
import re
from typing import TypeVar

F = TypeVar("F", bound=logging.Filterer)

MAX_LOGGED = 4_000
"""Maximum characters of a log message; a longer one is truncated, with a count."""

MAX_TRACEBACK = 20_000
MAX_TEXT = 4_000
"""Maximum characters of a text for people that is sent or stored."""

_INVISIBLE = (
    r"\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(rf"[\x00-\x1f{_INVISIBLE}]")
_UNSAFE_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_INVISIBLE}]")
_UNSAFE_IN_JSON = re.compile(f"[{_INVISIBLE}]")


def printable(text: str) -> str:
    """Escape unsafe characters, including line breaks."""
    return _UNSAFE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Escape unsafe characters, except line breaks and tabs."""
    return _UNSAFE_IN_LINES.sub(_escaped, text)


def printable_json(text: str) -> str:
    """Escape unsafe characters in JSON, without a change of its meaning."""
    return _UNSAFE_IN_JSON.sub(_escaped_in_json, text)


def bounded(text: str, limit: int) -> str:
    """Truncate a text to `limit` characters, and append the number of those left out."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}… ({left:,} more characters)"


def presentable(text: object) -> str:
    """A text that can be sent: at most 4,000 characters, with `?` for what UTF-8 cannot encode."""
    shown = str(text)[:MAX_TEXT]
    return shown if shown.isascii() else shown.encode(errors="replace").decode()


def storable(text: object) -> str:
    """A presentable text that every database accepts: PostgreSQL has no NUL."""
    return presentable(text).replace("\0", "\ufffd")


def encodable(text: str) -> str:
    """Escape what UTF-8 cannot encode, as in command-line arguments."""
    return text.encode(errors="backslashreplace").decode()


def decoded(payload: bytes) -> str:
    """Decode a payload, with escapes for what is not UTF-8."""
    return payload.decode(errors="backslashreplace")


def make_log_records_safe(target: F) -> F:
    """Make all records of a logger or handler bounded and printable, and return it; idempotent.

    That includes tracebacks. A logger's filters do not apply to the records of its children, so
    each module's logger needs this.
    """
    if not any(isinstance(each, _Safe) for each in target.filters):
        target.addFilter(_Safe())
    return target


class _Safe(logging.Filter):
    """Changes records, and drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        safe = printable(bounded(message, MAX_LOGGED))
        if safe != message:
            record.msg, record.args = safe, None  # without arguments nothing is formatted
        if record.exc_info and not record.exc_text:
            shown = _formatter.formatException(record.exc_info)
            record.exc_text = printable_lines(bounded(shown, MAX_TRACEBACK))
        return True


_formatter = logging.Formatter()


def _escaped_in_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(*[iter(units)] * 2, strict=True))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def counted(number: int, noun: str) -> str:
    """`1 event`, `2,000 events`, `3 entries`."""
    several = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"
