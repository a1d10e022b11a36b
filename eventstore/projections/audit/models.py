"""The tables of the audit index: every event of the log, and every command with its outcome.

Indexes begin with the columns of a filter and end with the time, which is the sort key; for events
the position, which breaks ties, is the row's own key. An entry of an index costs more than the row,
above all one of an id, which is on any of its pages. So indexes leave out what most rows have in
common: ids that are those of another column, no actor, success. Conditions of queries have to say
what is left out, as `equal` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    String,
    Table,
    Text,
    and_,
    column,
    literal_column,
    or_,
)

from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.table_names import library_metadata

# As INTEGER it is SQLite's rowid, and needs no second B-tree.
_POSITION = BigInteger().with_variant(Integer(), "sqlite")

_SUCCESS: ColumnElement[str] = literal_column("'success'")


def _index(*columns: str, of: ColumnElement[bool]) -> Index:
    """An index of those rows for which a condition is true."""
    return Index(None, *columns, sqlite_where=of, postgresql_where=of)


audit_event = Table(
    "eventstore_audit_event",
    library_metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False),
    Column("type", String(128), nullable=False),
    Column("aggregate", String(64), nullable=False),
    Column("aggregate_id", String(128), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("actor", String(256)),
    Column("correlation_id", String(36), nullable=False),
    Column("causation_id", String(36), nullable=False),
    Column("chain", String(64)),
    Index(None, "id"),
    Index(None, "correlation_id"),
    _index("causation_id", of=column("causation_id") != column("correlation_id")),
    Index(None, "aggregate", "aggregate_id", "version"),
    Index(None, "type", "time"),
    _index("actor", "time", of=column("actor").is_not(None)),
    Index(None, "time"),
)
"""One row an event: what its headers contain, without its payload."""

audit_command = Table(
    "eventstore_audit_command",
    library_metadata,
    Column("id", String(36), primary_key=True),
    Column("type", String(128)),
    Column("aggregate", String(64)),
    Column("aggregate_id", String(128)),
    Column("version", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("actor", String(256)),
    Column("correlation_id", String(36)),
    Column("causation_id", String(36)),
    Column("status", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("deliveries", Integer),
    _index("correlation_id", of=column("correlation_id") != column("id")),
    _index("causation_id", of=column("causation_id") != column("id")),
    Index(None, "aggregate", "aggregate_id", "version"),
    Index(None, "type", "time"),
    _index("actor", "time", of=column("actor").is_not(None)),
    _index("status", "time", of=column("status") != _SUCCESS),
    Index(None, "time"),
)
"""One row a command, with its last outcome. `version` and `position` are its aggregate's after it;
`time` is when the command was accepted, or if that is unknown when its outcome was recorded. These
rows outlive the bucket they are read from."""

audit_outcomes = Table(
    "eventstore_audit_outcomes",
    library_metadata,
    Column("bucket", String(128), primary_key=True),
    Column("made", String(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
)
"""Up to which `sequence` the outcomes in a bucket, created at `made`, are among the commands. It is
not a checkpoint of a projection, because it is a sequence of the bucket, not a log position."""

_USUALLY: Mapping[ColumnElement[Any], ColumnElement[Any]] = {
    audit_event.c.causation_id: audit_event.c.correlation_id,
    audit_command.c.correlation_id: audit_command.c.id,
    audit_command.c.causation_id: audit_command.c.id,
}
"""By column, the one whose id it usually has; its own index has only the rows that have another."""


def unusual(column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """The conditions of the rows in the index of a column with ids."""
    usual = _USUALLY.get(column)
    return [] if usual is None else [column != usual]


def equal(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Whether a column has a value, as it is found by the indexes."""
    if column is audit_command.c.status and value != "success":
        return and_(column == value, column != _SUCCESS)
    usual = _USUALLY.get(column)
    if usual is None:
        return column == value
    return or_(and_(column == value, column != usual), and_(usual == value, column == value))
