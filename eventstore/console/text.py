"""Values as the console shows them: untrusted text made visible, times, numbers, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventstore.messages.envelope import utc_now
from eventstore.messages.text import bounded, decoded, printable, printable_lines
from eventstore.messages.undecodable import UNDECODABLE

MAX_LINE = 400
MAX_BLOCK = 4_000
"""Maximum characters of a value in a line, and of one in a block of its own."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def line(value: object) -> str:
    """A value on one line, with what cannot be seen as escapes."""
    return bounded(printable("" if value is None else str(value)), MAX_LINE)


def block(value: object) -> str:
    """A text of several lines."""
    return bounded(printable_lines(str(value)), MAX_BLOCK)


def value(value: object) -> str:
    """A JSON value on one line."""
    return line(value if isinstance(value, int | float) else msgspec.json.encode(value).decode())


def json_block(value: object) -> str:
    """A JSON value, indented."""
    encoded = msgspec.json.encode(value)
    try:
        return block(msgspec.json.format(encoded, indent=2).decode())
    except UNDECODABLE:  # nested too deeply
        return block(encoded.decode())


def payload_block(payload: bytes) -> str:
    """A payload: indented if it is JSON, and otherwise as text with escapes."""
    if len(payload) <= MAX_BLOCK:
        try:
            return json_block(msgspec.json.decode(payload))
        except UNDECODABLE:
            pass
    return block(decoded(payload[: 4 * MAX_BLOCK]))


def is_truncated(payload: bytes) -> bool:
    """Whether `payload_block` shows only a part of a payload."""
    return len(payload) > MAX_BLOCK


def moment(time: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def exact(time: datetime) -> str:
    """A time in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")


def machine_time(time: datetime) -> str:
    """A time for the `datetime` attribute."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def since(time: datetime) -> str:
    """How long ago a time is, or in how long it will be."""
    seconds = (utc_now() - time).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def duration(seconds: object) -> str:
    """A duration, in one or two units; what is no number, as it is."""
    if not isinstance(seconds, int | float):
        return line("?" if seconds is None else seconds)
    if seconds < 0.001:
        return "0 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for number, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            count, rest = divmod(int(seconds), size)
            smaller = _UNITS[number + 1] if number + 1 < len(_UNITS) else (1, "")
            more = rest // smaller[0] if smaller[1] else 0
            return f"{count} {unit} {more} {smaller[1]}" if more else f"{count} {unit}"
    return f"{seconds:.0f} s"


def number(value: object) -> str:
    """A number with separators, a fraction if it is small; what is no number, as it is."""
    if not isinstance(value, int | float):
        return line("?" if value is None else value)
    if isinstance(value, int) or value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def size(count: object) -> str:
    """A number of bytes; what is no number, as it is."""
    if not isinstance(count, int):
        return line("?" if count is None else count)
    amount = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1_000 or unit == "GB":
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1_000
    return ""


def facts(check: Mapping[str, Any]) -> str:
    """The facts of a health check besides its status, in words; of tables, their sizes."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_fact(each)}"
        for name, each in check.items()
        if name not in ("status", "problem")
    )


def _fact(found: object) -> str:
    if isinstance(found, Mapping | list):
        return str(len(found))
    return f"{found:,}" if isinstance(found, int) else line(found)
