from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.table_names import library_metadata
from projections.models import metadata

DIALECTS = [sqlite.dialect(), postgresql.dialect()]  # type: ignore[no-untyped-call]
NOON = datetime(2026, 5, 4, 12, 30, 15, 678901, tzinfo=UTC)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_times_are_utc(dialect: object) -> None:
    kind = UtcDateTime()
    east = NOON.astimezone(timezone(timedelta(hours=5)))

    bound = kind.process_bind_param(east, dialect)  # type: ignore[arg-type]

    assert bound is not None
    assert bound.utcoffset() == timedelta(0)
    for stored in (bound, bound.replace(tzinfo=None), east):
        assert kind.process_result_value(stored, dialect) == NOON  # type: ignore[arg-type]


@given(
    st.datetimes(
        datetime(2, 1, 1),  # the strategy's bounds have no zone
        datetime(9998, 1, 1),
        timezones=st.just(UTC) | st.timezones(),
    )
)
def test_the_text_for_sqlite_is_that_of_the_time_in_utc(time: datetime) -> None:
    text = UtcDateTime().bind_processor(sqlite.dialect())
    assert text is not None
    plain = time.astimezone(UTC).replace(tzinfo=None)
    assert text(time) == plain.isoformat(" ", "microseconds")


def test_no_time_stays_none() -> None:
    assert UtcDateTime().process_bind_param(None, sqlite.dialect()) is None
    assert UtcDateTime().process_result_value(None, sqlite.dialect()) is None


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        UtcDateTime().process_bind_param(datetime(2026, 5, 4), sqlite.dialect())


def test_the_tables_could_be_made_in_postgresql() -> None:
    for table in (*library_metadata.sorted_tables, *metadata.sorted_tables):
        assert str(CreateTable(table).compile(dialect=DIALECTS[1]))
