"""What a checkpoint has seen last, so that a log that went back is noticed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
expands = True


def upgrade() -> None:
    op.add_column("eventstore_projection", sa.Column("seen", sa.String(160)))


def downgrade() -> None:
    op.drop_column("eventstore_projection", "seen")
