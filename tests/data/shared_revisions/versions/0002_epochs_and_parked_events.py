"""Columns of checkpoints besides the position, and the events that a projection could not apply."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked_event",
        sa.Column("projection", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("aggregate", sa.String(length=64), nullable=False),
        sa.Column("aggregate_id", sa.String(length=128), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("event_type", sa.String(length=128), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection", "position", name=op.f("pk_parked_event")),
    )
    op.create_index(
        op.f("ix_parked_event_projection_aggregate_aggregate_id_position"),
        "parked_event",
        ["projection", "aggregate", "aggregate_id", "position"],
    )
    with op.batch_alter_table("projection") as table:
        table.add_column(sa.Column("epoch", sa.Integer(), server_default="1", nullable=False))
        table.add_column(sa.Column("rate", sa.Float(), server_default="0", nullable=False))
        table.add_column(sa.Column("error", sa.Text(), nullable=True))
        table.add_column(sa.Column("log", sa.String(length=128), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("projection") as table:
        for name in ("log", "error", "rate", "epoch"):
            table.drop_column(name)
    op.drop_index(op.f("ix_parked_event_projection_aggregate_aggregate_id_position"))
    op.drop_table("parked_event")
