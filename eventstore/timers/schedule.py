"""Schedules: when a timer is due, once or repeatedly; and what can be the name of one."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from msgspec import Struct

from eventstore.errors import InvalidTimer, TimerInPast
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import format_timestamp
from eventstore.messages.headers import DUE
from eventstore.messages.subjects import NAME

Delay = timedelta | float
"""A time from now: a `timedelta`, or seconds."""

WhenPast = Literal["fire", "refuse"]
"""What to do with a timer whose time has passed: let it be due now, or refuse it."""

MAX_DELAY = timedelta(days=36_525)
"""A hundred years: the server takes a time after April 2262 for one in the past."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DELAY = re.compile(r"([0-9]{1,6})\s*([smhdw])")

BETWEEN = ":"
"""Separates the user of another account from the name of his timer, which cannot have it."""

MAX_NAME = 256
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
_AT = "@at "
AT_ONCE = f"{_AT}1970-01-01T00:00:00Z"
_CRON = re.compile(
    r"@(?:yearly|annually|monthly|weekly|daily|midnight|hourly|every [0-9a-zµ.]{1,32})"
    r"|[0-9A-Za-z*/,-]{1,64}(?: [0-9A-Za-z*/,-]{1,64}){4,5}"
)
_TIME_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,64}(?:/[A-Za-z0-9_+-]{1,64}){0,3}")


def delay_of(text: str) -> timedelta | None:
    """A delay as people write it, such as 90s, 15m, 2h, 3d or 1w; None for any other text."""
    found = _DELAY.fullmatch(text.strip())
    return None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})


def check_timer_name(name: str) -> str:
    """Return a timer's name if it is legal; raises `InvalidTimer`, naming it."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        shown = name[:270] if isinstance(name, str) else name
        raise InvalidTimer(
            f"timer name {shown!r} is not allowed: 1 to {MAX_NAME} of A-Z, a-z, 0-9, '_' and '-'"
        )
    return name


def check_stored_name(name: str) -> str:
    """Return the name of a timer of anybody, `{user}:{name}` if it is another user's.

    Raises `InvalidTimer`.
    """
    user, between, own = name.rpartition(BETWEEN)
    if between and not NAME.fullmatch(user):
        raise InvalidTimer(f"timer name {name[:270]!r} does not begin with the name of a user")
    check_timer_name(own)
    return name


def time_in(pattern: str) -> str | None:
    """The time in the pattern of a timer that is due once, as it is written; None of another."""
    return pattern.removeprefix(_AT) if pattern.startswith(_AT) else None


class Schedule(Struct, frozen=True):
    """When a timer is due: its pattern for the server, and its time unless it is recurring."""

    pattern: str
    at: datetime | None = None
    time_zone: str | None = None

    @classmethod
    def once(
        cls,
        now: datetime,
        *,
        at: datetime | None = None,
        after: Delay | None = None,
        past: WhenPast = "fire",
    ) -> Schedule:
        """Due once, at a time or after a delay.

        Raises `InvalidTimer` for both or neither, a time without a zone, or one more than a hundred
        years ahead, and any other `past`; `TimerInPast` for one that has passed, if that is to be
        refused.
        """
        if (at is None) == (after is None):
            raise InvalidTimer("a timer needs either a time (at) or a delay (after)")
        if past not in get_args(WhenPast):
            raise InvalidTimer(f"past is {past!r}, neither 'fire' nor 'refuse'")
        time = _after(now, after) if after is not None else _in_utc(at)
        if time - now > MAX_DELAY:
            raise InvalidTimer(f"{time} is more than 100 years ahead")
        if time > now:
            return cls(f"{_AT}{format_timestamp(time)}", time)
        if past == "refuse":
            raise TimerInPast(f"{time} has passed: it is {now}")
        return cls(AT_ONCE, time)  # the server's clock may be behind

    @classmethod
    def recurring(cls, cron: str, time_zone: str | None = None) -> Schedule:
        """Due repeatedly, by a cron expression of five fields, or of six with seconds first.

        Also `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, and `@every 90s` from a second
        on. `time_zone` is a name such as `Europe/Berlin`; without it, the times are UTC. Raises
        `InvalidTimer` for what is neither; the server checks the rest.
        """
        text = " ".join(cron.split()) if isinstance(cron, str) else ""
        if not _CRON.fullmatch(text):
            raise InvalidTimer(
                f"cron expression {cron!r} has neither five or six fields, nor is it @hourly, "
                "@daily, @weekly, @monthly, @yearly or @every with a duration"
            )
        if time_zone is not None and not _TIME_ZONE.fullmatch(time_zone):
            raise InvalidTimer(f"time zone {time_zone!r} is not a name such as Europe/Berlin")
        return cls(f"0 {text}" if text.count(" ") == 4 else text, time_zone=time_zone)

    @property
    def is_recurring(self) -> bool:
        """Whether it is due more than once."""
        return self.at is None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that make a message a timer, but for its target."""
        headers = {NatsHeader.SCHEDULE: self.pattern}
        if self.time_zone is not None:
            headers[NatsHeader.SCHEDULE_TIME_ZONE] = self.time_zone
        if self.at is not None:
            headers[DUE] = format_timestamp(self.at)
        return headers


def _after(now: datetime, delay: Delay) -> datetime:
    try:
        seconds = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        return now + min(seconds, 2 * MAX_DELAY)
    except (OverflowError, TypeError, ValueError):
        if isinstance(delay, float) and math.isinf(delay):
            raise InvalidTimer("a timer's delay is infinite") from None
        raise InvalidTimer(f"a timer's delay is {delay!r}, not a timedelta or seconds") from None


def _in_utc(time: datetime | None) -> datetime:
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise InvalidTimer(f"a timer's time is {time!r}; it needs a zone, as datetime.now(UTC) has")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidTimer(f"{time} is no time in UTC") from None
