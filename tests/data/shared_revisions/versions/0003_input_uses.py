"""Which flakes use which inputs, and at which urls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "input_user",
        sa.Column("flake_id", sa.String(length=128), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("flake_id", name=op.f("pk_input_user")),
    )
    op.create_table(
        "input_use",
        sa.Column("flake_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["flake_id"], ["input_user.flake_id"], name=op.f("fk_input_use_flake_id_input_user")
        ),
        sa.PrimaryKeyConstraint("flake_id", "name", name=op.f("pk_input_use")),
    )
    op.create_index(
        op.f("ix_input_use_name_url_flake_id"), "input_use", ["name", "url", "flake_id"]
    )


def downgrade() -> None:
    op.drop_table("input_use")
    op.drop_table("input_user")
