"""Clocks and message ids of the caller's own."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import Application
from eventstore.errors import ConfigurationError, InvalidId
from eventstore.messages.envelope import Identity, check_message_id, checked_clock, instant

HERE = timezone(timedelta(hours=2))


@pytest.mark.parametrize("time", [datetime(2026, 1, 1), datetime.min, None, 1.0], ids=str)
def test_a_clock_tells_a_time_with_a_zone(time: Any) -> None:
    def clock() -> Any:
        return time

    with pytest.raises(ConfigurationError, match=r"the clock returned .* with a zone"):
        checked_clock(clock)()


def test_a_time_before_the_first_one_in_utc_is_none() -> None:
    with pytest.raises(ConfigurationError, match="the clock returned"):
        checked_clock(lambda: datetime(1, 1, 1, tzinfo=HERE))()


def test_a_clock_in_another_zone_tells_the_same_time() -> None:
    now = checked_clock(lambda: datetime(2026, 1, 1, 2, tzinfo=HERE))()

    assert (now, now.tzinfo) == (datetime(2026, 1, 1, tzinfo=UTC), UTC)


async def later() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize("clock", [later, datetime(2026, 1, 1, tzinfo=UTC), None])
def test_an_application_has_a_clock_that_can_be_read(clock: Any) -> None:
    with pytest.raises(ConfigurationError, match="application shop: clock must be a function"):
        Application("shop", [], clock=clock)


def test_a_uuid_is_taken_as_the_id_of_a_message() -> None:
    own = uuid.uuid4()

    assert Identity.root(own).id == Identity.caused_by(Identity.root(), own).id == str(own)


@pytest.mark.parametrize("value", ["x", "C4715734-164B-46A1-B1EF-C2E67F449BCC", 7, None, b"x"])
def test_others_are_refused(value: Any) -> None:
    with pytest.raises(InvalidId, match="is not a UUID in lower-case canonical form"):
        check_message_id(value)


@given(st.integers(0, 253_402_300_799_999_999_999))  # to the end of the year 9999
def test_the_time_of_nanoseconds_is_exact_to_the_microsecond(nanoseconds: int) -> None:
    seconds, rest = divmod(nanoseconds, 10**9)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    assert instant(nanoseconds) == time
