"""The clock that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eventstore.errors import ConfigurationError
from eventstore.testing import ManualClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock()
    start = clock()
    assert clock() == start
    assert clock.advance(timedelta(hours=1)) == clock() == start + timedelta(hours=1)


def test_time_does_not_go_back_and_has_a_zone() -> None:
    with pytest.raises(ConfigurationError, match="does not go back"):
        ManualClock().advance(timedelta(seconds=-1))
    with pytest.raises(ConfigurationError, match="with a zone"):
        ManualClock(datetime(2100, 1, 1))  # what is refused
    assert ManualClock(datetime(2100, 1, 1, tzinfo=UTC))() == datetime(2100, 1, 1, tzinfo=UTC)
