"""The indexes that projections have declared, so that those that they drop are known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "eventstore_declared_index",
        sa.Column("projection", sa.String(64), nullable=False),
        sa.Column("table", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(
            "projection", "table", "name", name=op.f("pk_eventstore_declared_index")
        ),
    )


def downgrade() -> None:
    op.drop_table("eventstore_declared_index")
