"""Rows as answers: what the statement says is an integer is one, in each kind of database."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Numeric,
    String,
    Table,
    func,
    insert,
    select,
)

from eventstore.messages.queries import Listed, ListQuery, Query
from eventstore.projections.database.database import Database
from eventstore.projections.queries.rows import Rows

metadata = MetaData()
booking = Table(
    "booking",
    metadata,
    Column("account", String(128), nullable=False),
    Column("cents", BigInteger, nullable=False),
    Column("rate", Numeric(6, 2), nullable=False),
)
BALANCES = (
    select(
        booking.c.account,
        func.sum(booking.c.cents).label("balance"),
        func.max(booking.c.rate).label("rate"),
    )
    .group_by(booking.c.account)
    .order_by(booking.c.account)
)
LARGE = 1 << 62


class Balance(Struct, frozen=True):
    account: str
    balance: int
    rate: Decimal


class GetBalance(Query[Balance], subject="account.balance"):
    pass


class ListBalances(ListQuery[Balance], subject="account.balances"):
    pass


ANN = Balance("ann", LARGE, Decimal("3.00"))


@pytest.fixture
async def bookings(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        metadata.create_all(connection)
        rows = [
            {"account": "ann", "cents": LARGE - 1, "rate": Decimal("2.50")},
            {"account": "ann", "cents": 1, "rate": Decimal("3.00")},
            {"account": "bob", "cents": -7, "rate": Decimal("1.00")},
        ]
        connection.execute(insert(booking), rows)

    await database.transact(fill)
    return database


@pytest.mark.filterwarnings("ignore:Dialect sqlite.*does \\*not\\* support Decimal")
async def test_a_sum_of_integers_is_an_integer(bookings: Database) -> None:
    def read(connection: Connection) -> tuple[list[Balance], Balance, Listed[Balance]]:
        rows = Rows(connection)
        own = BALANCES.where(booking.c.account == "ann")
        return (
            rows.all(BALANCES, Balance),
            rows.one(GetBalance(), own, "account"),
            rows.page(ListBalances(limit=1), BALANCES.order_by(None), [booking.c.account]),
        )

    every, one, page = await bookings.read(read)
    assert every == [ANN, Balance("bob", -7, Decimal("1.00"))]
    assert (one, page.items) == (ANN, [ANN])
    assert str(one.rate) == "3.00"
