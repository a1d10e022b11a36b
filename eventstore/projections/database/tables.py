"""Types and metadata for tables of the read side, and four of the library's own tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from eventstore.projections.table_names import NAMING_CONVENTION, library_metadata

metadata = MetaData(naming_convention=NAMING_CONVENTION)
"""For tables of a user's own, with names for their constraints; another `MetaData` does as well."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: written in any zone, read in UTC, on databases with and without zones.

    Raises `ValueError`, wrapped by SQLAlchemy, for a time without a zone.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert the time to UTC."""
        return None if value is None else _in_utc(value)

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """For SQLite, the text that SQLAlchemy makes of it, in a third of the time."""
        return _text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert the time to UTC; one without a zone is in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"time {value} has no zone")
    return value.astimezone(UTC)


@lru_cache(maxsize=2048)  # one event's time is in several rows
def _text(value: datetime | None) -> str | None:
    if value is None:
        return None
    utc = value if value.tzinfo is UTC else _in_utc(value)
    return utc.isoformat(" ", "microseconds")[:26]  # without the offset


checkpoints = Table(
    "eventstore_projection",
    library_metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("rate", Float, nullable=False, server_default="0"),
    Column("error", Text),
    Column("log", String(128)),
    Column("seen", String(160)),
)
"""One row a projection: the version that built its rows, and the last log position in them.

`epoch` is incremented when the rows are replaced, or the checkpoint is set by anyone but the worker
that moves it; `rate` is events a second when it moved last; `error` is why it stopped, if it did;
`log` identifies the log that the rows were built from, and `seen` is the last event in them, with
its position (`eventstore.store.log_mark`): null until the checkpoint is used by a release that
knows it.
"""

parked_event = Table(
    "eventstore_parked_event",
    library_metadata,
    Column("projection", String(64), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("aggregate", String(64), nullable=False),
    Column("aggregate_id", String(128), nullable=False),
    Column("event_id", String(36), nullable=False),
    Column("event_type", String(128), nullable=False),
    Column("error", Text),
    Column("tries", Integer, nullable=False),
    Column("parked_at", UtcDateTime, nullable=False),
    Index(
        # Named here, for the convention's name is longer than PostgreSQL's 63 characters.
        "ix_eventstore_parked_event_aggregate",
        "projection",
        "aggregate",
        "aggregate_id",
        "position",
    ),
)
"""Events that a projection could not apply and skipped, and later ones of the same aggregate, which
are parked behind one, and whose `error` is null. The events themselves are in the log."""

declared_index = Table(
    "eventstore_declared_index",
    library_metadata,
    Column("projection", String(64), primary_key=True),
    Column("table", Text, primary_key=True),
    Column("name", Text, primary_key=True),
)
"""The names of the indexes that projections have declared since their rows were built, with the
full names of their tables."""

required_revision = Table(
    "eventstore_revision",
    library_metadata,
    Column("version_num", String(32), primary_key=True),
)
"""The last revision of the library's tables that a release has to know to use them: one row."""
