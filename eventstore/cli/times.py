"""Times as people write and read them: an instant, a date, or how long it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_DELAY = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_VERSION = re.compile(r"[0-9]{1,18}")


def parse_delay(text: str) -> timedelta | None:
    """How long: 90s, 15m, 2h, 3d, 1w; None for what is not written so."""
    found = _DELAY.fullmatch(text.strip())
    return None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_time(text: str | None, option: str, now: datetime) -> datetime | None:
    """An RFC 3339 time, a date (its midnight), or how long before `now`: 90s, 15m, 2h, 3d, 1w.

    Without a time zone it is UTC. Raises `typer.BadParameter`, naming the option.
    """
    if text is None:
        return None
    try:
        ago = parse_delay(text)
        if ago is not None:
            return now - ago
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time: write 2026-05-04T12:30:00Z, 2026-05-04, or 90s, 15m, 2h, 3d, "
            "1w for how long ago",
            param_hint=option,
        ) from None


def parse_at(text: str | None, option: str, now: datetime) -> int | datetime | None:
    """A version, or a time as `parse_time` reads it."""
    if text is not None and _VERSION.fullmatch(text.strip()):
        return int(text)
    return parse_time(text, option, now)


def moment(time: datetime) -> str:
    """A time as it is printed, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def exact_moment(time: datetime) -> str:
    """A time in UTC with milliseconds, as it is printed."""
    return time.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
