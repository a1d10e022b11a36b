from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from eventstore.cli.times import parse_at, parse_time

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-04T12:30:00Z", NOW),
        ("2026-05-04T14:30:00+02:00", NOW),
        ("2026-05-04 12:30", NOW),
        ("2026-05-04", datetime(2026, 5, 4, tzinfo=UTC)),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        (" 3 d ", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(weeks=1)),
    ],
)
def test_times_have_several_formats(text: str, moment: datetime) -> None:
    assert parse_time(text, "--since", NOW) == moment


def test_no_time_is_none() -> None:
    assert parse_time(None, "--since", NOW) is None


@pytest.mark.parametrize("text", ["", "x", "2 years", "-1h", "2026-13-01", "999999w", "h"])
def test_an_invalid_time_is_refused_with_the_options_name(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a time: write ") as refused:
        parse_time(text, "--since", NOW)
    assert refused.value.param_hint == "--since"


def test_a_number_is_a_version() -> None:
    assert parse_at("12", "--at", NOW) == 12
    assert parse_at("2h", "--at", NOW) == NOW - timedelta(hours=2)
