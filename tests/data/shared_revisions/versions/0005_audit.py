"""The audit index: every event, and every command with its outcome."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_EVENT_INDEXES = (
    ("id",),
    ("correlation_id",),
    ("causation_id",),
    ("aggregate", "aggregate_id", "version"),
    ("type", "time"),
    ("actor", "time"),
    ("time",),
)
_COMMAND_INDEXES = (
    ("correlation_id",),
    ("causation_id",),
    ("aggregate", "aggregate_id", "version"),
    ("type", "time"),
    ("actor", "time"),
    ("status", "time"),
    ("time",),
)


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("aggregate", sa.String(length=64), nullable=False),
        sa.Column("aggregate_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=True),
        sa.Column("correlation_id", sa.String(length=36), nullable=False),
        sa.Column("causation_id", sa.String(length=36), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_event")),
    )
    op.create_table(
        "audit_command",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=True),
        sa.Column("aggregate", sa.String(length=64), nullable=True),
        sa.Column("aggregate_id", sa.String(length=128), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=True),
        sa.Column("correlation_id", sa.String(length=36), nullable=True),
        sa.Column("causation_id", sa.String(length=36), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_command")),
    )
    op.create_table(
        "audit_outcomes",
        sa.Column("bucket", sa.String(length=128), nullable=False),
        sa.Column("made", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_audit_outcomes")),
    )
    for table, indexes in (("audit_event", _EVENT_INDEXES), ("audit_command", _COMMAND_INDEXES)):
        for columns in indexes:
            op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def downgrade() -> None:
    op.drop_table("audit_outcomes")
    op.drop_table("audit_command")
    op.drop_table("audit_event")
