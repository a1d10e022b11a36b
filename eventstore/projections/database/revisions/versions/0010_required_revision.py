"""The revision that a release has to know is recorded apart from the newest one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
expands = True

_TABLE = "eventstore_revision"


def upgrade() -> None:
    # There it is the version table of releases until 0009.
    if not sa.inspect(op.get_bind()).has_table(_TABLE):
        op.create_table(_TABLE, sa.Column("version_num", sa.String(32), primary_key=True))


def downgrade() -> None:
    op.drop_table(_TABLE)
