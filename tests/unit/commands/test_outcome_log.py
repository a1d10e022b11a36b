"""The times in the headers of outcomes."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from eventstore.commands.outcome_log import _timestamp
from eventstore.messages.envelope import format_timestamp


@given(st.integers(0, 253_402_300_799_999_999_999))  # to the end of the year 9999
def test_the_time_of_acceptance_is_as_any_other_time(nanoseconds: int) -> None:
    seconds, rest = divmod(nanoseconds, 10**9)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    assert _timestamp(nanoseconds) == format_timestamp(time)
