from sqlalchemy import BigInteger, Column, Date, Integer, MetaData, String, Table, Text

metadata = MetaData()

order = Table(
    "order_view",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("article", String(128), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("status", String(9), nullable=False),
    Column("reason", Text),
)
sale = Table(
    "sale",
    metadata,
    Column("order", String(128), primary_key=True),
    Column("day", Date, nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
)
