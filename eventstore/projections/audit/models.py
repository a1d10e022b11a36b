"""The tables of the audit index: every event of the log, and every command with its outcome.

Indexes begin with the columns of a filter and end with the time, which is the sort key; for events
the position, which breaks ties, is the row's own key.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.table_names import library_metadata

# As INTEGER it is SQLite's rowid, and needs no second B-tree.
_POSITION = BigInteger().with_variant(Integer(), "sqlite")

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
    Index(None, "causation_id"),
    Index(None, "aggregate", "aggregate_id", "version"),
    Index(None, "type", "time"),
    Index(None, "actor", "time"),
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
    Index(None, "correlation_id"),
    Index(None, "causation_id"),
    Index(None, "aggregate", "aggregate_id", "version"),
    Index(None, "type", "time"),
    Index(None, "actor", "time"),
    Index(None, "status", "time"),
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
