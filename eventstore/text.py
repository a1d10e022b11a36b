"""Text from outside, made safe to be seen: nothing in it commands a terminal or deceives a reader.

What is escaped: control characters (C0, DEL, C1), line and paragraph separators, characters that
change the direction of what follows, characters of no width, and lone surrogates.
"""

from __future__ import annotations

import logging
import re
from typing import TypeVar

__all__ = [
    "bounded",
    "decoded",
    "encodable",
    "make_log_records_safe",
    "presentable",
    "printable",
    "printable_json",
    "printable_lines",
    "storable",
]

F = TypeVar("F", bound=logging.Filterer)

MAX_LOGGED = 4_000
"""Characters of a log message; the rest of what is longer is left out, and counted."""

MAX_TRACEBACK = 20_000
MAX_TEXT = 4_000
"""Characters of a text for people that is sent or stored."""

_INVISIBLE = (
    r"\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(rf"[\x00-\x1f{_INVISIBLE}]")
_UNSAFE_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_INVISIBLE}]")
_UNSAFE_IN_JSON = re.compile(f"[{_INVISIBLE}]")


def printable(text: str) -> str:
    """The text with what is unsafe shown as escapes, line breaks included."""
    return _UNSAFE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, which stay so; tabs stay, too."""
    return _UNSAFE_IN_LINES.sub(_escaped, text)


def printable_json(text: str) -> str:
    """JSON of the same meaning in which what is unsafe stands as escapes."""
    return _UNSAFE_IN_JSON.sub(_escaped_in_json, text)


def bounded(text: str, limit: int) -> str:
    """The beginning of a text that is longer than `limit` characters, and how many are left out."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}… ({left:,} more characters)"


def presentable(text: object) -> str:
    """A text that can be sent: at most 4,000 characters, with `?` for what UTF-8 cannot encode."""
    return str(text)[:MAX_TEXT].encode(errors="replace").decode()


def storable(text: object) -> str:
    """A presentable text that every database accepts: PostgreSQL has no NUL."""
    return presentable(text).replace("\0", "\ufffd")


def encodable(text: str) -> str:
    """The text with escapes for what UTF-8 cannot encode: arguments need not be UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def decoded(payload: bytes) -> str:
    """A payload as text, with escapes for what is not UTF-8."""
    return payload.decode(errors="backslashreplace")


def make_log_records_safe(target: F) -> F:
    """Have what passes a logger or a handler bounded and printable, and return it; idempotent.

    Covers what an exception says in a traceback, too, whoever formats it. A logger's records are
    those logged to it itself and not to its children, so each module's logger is made safe.
    """
    if not any(isinstance(each, _Safe) for each in target.filters):
        target.addFilter(_Safe())
    return target


class _Safe(logging.Filter):
    """Lets every record through."""

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
