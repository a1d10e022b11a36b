import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "order_view",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("customer", sa.String(128), nullable=False),
        sa.Column("article", sa.String(128), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("reason", sa.Text()),
    )
    op.create_table(
        "sale",
        sa.Column("order", sa.String(128), primary_key=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
    )
    op.create_index("ix_sale_day", "sale", ["day"])


def downgrade() -> None:
    op.drop_table("sale")
    op.drop_table("order_view")
