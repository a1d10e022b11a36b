"""Packages that are stale, and where in the log a package was built last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("package") as table:
        table.add_column(
            sa.Column("built_position", sa.BigInteger(), server_default="0", nullable=False)
        )
        table.add_column(
            sa.Column("stale", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        table.add_column(sa.Column("stale_reason", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("package") as table:
        table.drop_column("stale_reason")
        table.drop_column("stale")
        table.drop_column("built_position")
