"""What visitors send: the values of forms and of addresses, bounded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from eventstore.messages.envelope import utc_now
from eventstore.timers.schedule import delay_of

MAX_BODY = 16_384
"""The largest body of a request, in bytes."""

_MAX_FIELDS = 50
_MAX_NUMBER = 10**18


async def read_form(request: Request) -> Mapping[str, str]:
    """The values of a form; raises `HTTPException` for one that is too large or malformed."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"The form is larger than {MAX_BODY:,} bytes.")
    try:
        text = body.decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise HTTPException(400, f"The form cannot be read: {error}") from error


def word(request: Request, name: str) -> str | None:
    """A value of the address; None if it is not there, or empty."""
    return request.query_params.get(name, "").strip() or None


def whole_number(text: str | None, name: str, *, least: int = 0) -> int | None:
    """A number of the address; raises `HTTPException` for another text."""
    if text is None:
        return None
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.isdecimal()) or not least <= int(digits[:19]) < _MAX_NUMBER:
        raise HTTPException(400, f"{name} is not a whole number from {least}: {text[:80]!r}")
    return int(digits)


def time_of(text: str | None, name: str) -> datetime | None:
    """A time as RFC 3339, a date, or an age such as `2h`; raises `HTTPException` for another."""
    if text is None:
        return None
    try:
        ago = delay_of(text)
        if ago is not None:
            return utc_now() - ago
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(
            400,
            f"{name} is not a time: {text[:80]!r}. Write 2026-05-04T12:30, 2026-05-04, or how long "
            "ago: 90s, 15m, 2h, 3d, 1w.",
        ) from None
