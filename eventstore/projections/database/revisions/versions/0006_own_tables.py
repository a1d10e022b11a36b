"""The library's tables under names of their own; those of an older release are renamed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from eventstore.projections.database import legacy

revision = "0006"
down_revision = None
branch_labels = None
depends_on = None

_metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _added_by_0002() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("epoch", sa.Integer, nullable=False, server_default="1"),
        sa.Column("rate", sa.Float, nullable=False, server_default="0"),
        sa.Column("error", sa.Text),
        sa.Column("log", sa.String(128)),
    )


_checkpoints = sa.Table(
    "eventstore_projection",
    _metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    *_added_by_0002(),
)
_parked_event = sa.Table(
    "eventstore_parked_event",
    _metadata,
    sa.Column("projection", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("aggregate", sa.String(64), nullable=False),
    sa.Column("aggregate_id", sa.String(128), nullable=False),
    sa.Column("event_id", sa.String(36), nullable=False),
    sa.Column("event_type", sa.String(128), nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False),
    sa.Index(
        "ix_eventstore_parked_event_aggregate",
        "projection",
        "aggregate",
        "aggregate_id",
        "position",
    ),
)
_audit_event = sa.Table(
    "eventstore_audit_event",
    _metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("id", sa.String(36), nullable=False),
    sa.Column("type", sa.String(128), nullable=False),
    sa.Column("aggregate", sa.String(64), nullable=False),
    sa.Column("aggregate_id", sa.String(128), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actor", sa.String(256)),
    sa.Column("correlation_id", sa.String(36), nullable=False),
    sa.Column("causation_id", sa.String(36), nullable=False),
    sa.Column("chain", sa.String(64)),
    sa.Index(None, "id"),
    sa.Index(None, "correlation_id"),
    sa.Index(None, "causation_id"),
    sa.Index(None, "aggregate", "aggregate_id", "version"),
    sa.Index(None, "type", "time"),
    sa.Index(None, "actor", "time"),
    sa.Index(None, "time"),
)
_audit_command = sa.Table(
    "eventstore_audit_command",
    _metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("type", sa.String(128)),
    sa.Column("aggregate", sa.String(64)),
    sa.Column("aggregate_id", sa.String(128)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actor", sa.String(256)),
    sa.Column("correlation_id", sa.String(36)),
    sa.Column("causation_id", sa.String(36)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("deliveries", sa.Integer),
    sa.Index(None, "correlation_id"),
    sa.Index(None, "causation_id"),
    sa.Index(None, "aggregate", "aggregate_id", "version"),
    sa.Index(None, "type", "time"),
    sa.Index(None, "actor", "time"),
    sa.Index(None, "status", "time"),
    sa.Index(None, "time"),
)
_audit_outcomes = sa.Table(
    "eventstore_audit_outcomes",
    _metadata,
    sa.Column("bucket", sa.String(128), primary_key=True),
    sa.Column("made", sa.String(64), nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
)


def upgrade() -> None:
    connection = op.get_bind()
    at, known = legacy.revision(connection), legacy.tables(connection)
    for table in _metadata.sorted_tables:
        old = table.name.removeprefix("eventstore_")
        if old in known:
            _rename(old, table)
        else:
            # Never over a table that is there already, whose columns may be others.
            table.create(connection, checkfirst=False)
    if at == "0001":
        for column in _added_by_0002():
            op.add_column(_checkpoints.name, column)


def downgrade() -> None:
    for table in _metadata.sorted_tables:
        op.drop_table(table.name)


def _rename(old: str, table: sa.Table) -> None:
    """Rename a table and its indexes, whose names a user's own table may have."""
    connection = op.get_bind()
    op.rename_table(old, table.name)
    if connection.dialect.name == "postgresql":
        # The constraint of a primary key is renamed with its index.
        op.execute(f'ALTER INDEX IF EXISTS "pk_{old}" RENAME TO "pk_{table.name}"')
    for index in table.indexes:
        old_name = f"ix_{old}_{'_'.join(column.name for column in index.columns)}"
        if connection.dialect.name == "postgresql":
            op.execute(f'ALTER INDEX IF EXISTS "{old_name}" RENAME TO "{index.name}"')
        else:  # SQLite cannot rename an index
            op.drop_index(old_name, table.name, if_exists=True)
        index.create(connection, checkfirst=True)
