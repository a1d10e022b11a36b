"""The read models of the five aggregates of the Nix domain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "configuration",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("modules", sa.JSON(), nullable=False),
        sa.Column("overlays", sa.JSON(), nullable=False),
        sa.Column("current_generation", sa.Integer(), nullable=False),
        sa.Column("last_generation", sa.Integer(), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration")),
    )
    op.create_index(op.f("ix_configuration_name_id"), "configuration", ["name", "id"])

    op.create_table(
        "flake",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flake")),
    )
    op.create_index(op.f("ix_flake_path_id"), "flake", ["path", "id"])

    op.create_table(
        "module",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_module")),
    )
    op.create_index(op.f("ix_module_name_id"), "module", ["name", "id"])

    op.create_table(
        "overlay",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_overlay")),
    )
    op.create_index(op.f("ix_overlay_name_id"), "overlay", ["name", "id"])

    op.create_table(
        "package",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("flake_ref", sa.Text(), nullable=False),
        sa.Column("attribute", sa.Text(), nullable=False),
        sa.Column("output_path", sa.Text(), nullable=False),
        sa.Column("build_time_ms", sa.BigInteger(), nullable=True),
        sa.Column("builds", sa.Integer(), nullable=False),
        sa.Column("built_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cache_url", sa.Text(), nullable=True),
        sa.Column("cached_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_package")),
    )
    op.create_index(
        op.f("ix_package_flake_ref_attribute_id"), "package", ["flake_ref", "attribute", "id"]
    )

    op.create_table(
        "configuration_change",
        sa.Column("configuration_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.String(length=128), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("from_generation", sa.Integer(), nullable=True),
        sa.Column("activation", sa.String(length=16), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["configuration_id"],
            ["configuration.id"],
            name=op.f("fk_configuration_change_configuration_id_configuration"),
        ),
        sa.PrimaryKeyConstraint(
            "configuration_id", "version", name=op.f("pk_configuration_change")
        ),
    )
    op.create_table(
        "configuration_generation",
        sa.Column("configuration_id", sa.String(length=128), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("activation", sa.String(length=16), nullable=False),
        sa.Column("modules", sa.JSON(), nullable=False),
        sa.Column("overlays", sa.JSON(), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["configuration_id"],
            ["configuration.id"],
            name=op.f("fk_configuration_generation_configuration_id_configuration"),
        ),
        sa.PrimaryKeyConstraint(
            "configuration_id", "generation", name=op.f("pk_configuration_generation")
        ),
    )
    op.create_table(
        "flake_input",
        sa.Column("flake_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["flake_id"], ["flake.id"], name=op.f("fk_flake_input_flake_id_flake")
        ),
        sa.PrimaryKeyConstraint("flake_id", "name", name=op.f("pk_flake_input")),
    )
    op.create_table(
        "package_cache",
        sa.Column("package_id", sa.String(length=128), nullable=False),
        sa.Column("cache_url", sa.Text(), nullable=False),
        sa.Column("output_path", sa.Text(), nullable=False),
        sa.Column("cached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["package_id"], ["package.id"], name=op.f("fk_package_cache_package_id_package")
        ),
        sa.PrimaryKeyConstraint("package_id", "cache_url", name=op.f("pk_package_cache")),
    )


def downgrade() -> None:
    op.drop_table("package_cache")
    op.drop_table("flake_input")
    op.drop_table("configuration_generation")
    op.drop_table("configuration_change")
    op.drop_table("package")
    op.drop_table("overlay")
    op.drop_table("module")
    op.drop_table("flake")
    op.drop_table("configuration")
