"""The flake that a package was built from; the position of the build is needed no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("package", sa.Column("flake", sa.String(length=128), nullable=True))
    op.drop_column("package", "built_position")


def downgrade() -> None:
    position = sa.Column("built_position", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("package", position)
    op.drop_column("package", "flake")
