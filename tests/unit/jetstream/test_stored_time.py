"""The time at which the server stored a message, as it writes it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.jetstream.stored_message import stored_time

START = int(datetime(2026, 11, 29, 2, 1, 20, tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-11-29T02:01:20.123456789Z", START + 123_456_789),
        ("2026-11-29T02:01:20.12Z", START + 120_000_000),
        ("2026-11-29T02:01:20Z", START),
        ("", 0),
        ("2026-11-29T02:01:20", 0),
        ("2026-11-29T02:01:20.12", 0),
        ("2026-11-29T02:01:20.xZ", 0),
        ("2026-13-29T02:01:20Z", 0),
        ("2026-11-29T02:01:20+01:00", 0),
    ],
)
def test_a_time_of_the_servers_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert stored_time(text) == nanoseconds


@given(text=st.text(max_size=40))
def test_any_other_text_is_no_time(text: str) -> None:
    assert stored_time(text) >= 0
