"""Stale packages, and the position in the log of a package's last build."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One by one: a batch would copy the table, which others refer to.
    for column in (
        sa.Column("built_position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stale", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("stale_reason", sa.Text(), nullable=True),
    ):
        op.add_column("package", column)


def downgrade() -> None:
    for name in ("stale_reason", "stale", "built_position"):
        op.drop_column("package", name)
