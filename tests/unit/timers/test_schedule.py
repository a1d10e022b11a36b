"""Schedules: what the server is told, for once and for always."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from eventstore.errors import InvalidTimer
from eventstore.timers import Schedule

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"after": HOUR}, NOW + HOUR),
        ({"after": 1.5}, NOW + timedelta(seconds=1.5)),
        ({"after": 90}, NOW + timedelta(seconds=90)),
        ({"at": NOW + HOUR}, NOW + HOUR),
        ({"at": datetime(2026, 6, 1, 15, tzinfo=timezone(2 * HOUR))}, NOW + HOUR),
    ],
)
def test_it_is_due_once_at_a_time_or_after_a_delay(
    options: dict[str, object], at: datetime
) -> None:
    schedule = Schedule.once(NOW, **options)  # type: ignore[arg-type]
    assert (schedule.at, schedule.is_recurring) == (at, False)
    text = f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert schedule.headers == {"Nats-Schedule": f"@at {text}", "X-Due": text}


def test_what_is_past_is_due_at_once_whatever_the_servers_clock_says() -> None:
    schedule = Schedule.once(NOW, at=NOW - HOUR)
    assert schedule.headers["Nats-Schedule"] == "@at 1970-01-01T00:00:00Z"
    assert schedule.headers["X-Due"] == "2026-06-01T11:00:00.000000Z"


def test_the_year_9999_is_not_due_at_once() -> None:
    """The server counts nanoseconds in 64 bits, and takes a time after 2262 for a past one."""
    with pytest.raises(InvalidTimer, match="more than 100 years ahead"):
        Schedule.once(NOW, at=datetime(9999, 1, 1, tzinfo=UTC))
    Schedule.once(NOW, at=datetime(2126, 5, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("cron", "pattern"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("  0  3 * * MON-FRI ", "0 0 3 * * MON-FRI"),
        ("*/10 * * * * *", "*/10 * * * * *"),
        ("@daily", "@daily"),
        ("@every 1h30m", "@every 1h30m"),
    ],
)
def test_it_recurs_by_a_cron_expression(cron: str, pattern: str) -> None:
    schedule = Schedule.recurring(cron, "Europe/Berlin")
    assert schedule.headers == {
        "Nats-Schedule": pattern,
        "Nats-Schedule-Time-Zone": "Europe/Berlin",
    }
    assert schedule.is_recurring


@pytest.mark.parametrize("cron", ["@at 2030-01-01T00:00:00Z", "", "* * *\r\nX: y", 5, "@reboot"])
def test_anything_else_is_refused(cron: str) -> None:
    with pytest.raises(InvalidTimer, match="neither five or six fields"):
        Schedule.recurring(cron)


@pytest.mark.parametrize("zone", ["", "Europe/Berlin\r\nX: y", "../etc/passwd", "a b"])
def test_a_time_zone_is_a_name(zone: str) -> None:
    with pytest.raises(InvalidTimer, match="is not a name"):
        Schedule.recurring("@daily", zone)
