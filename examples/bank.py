"""A bank: a decider, a read model and a query. Run it with `eventstore --app bank:app serve`."""

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, func, insert, select

from eventstore import Application, Command, Decider, Event, Query, RecordedEvent, Rejected
from eventstore.projections import Projection, Statement
from eventstore.projections.queries import QueryHandlers, Rows


class Deposit(Command, subject="account.deposit"):
    amount: int


class Withdraw(Command, subject="account.withdraw"):
    amount: int


class Deposited(Event, subject="account.deposited"):
    amount: int


class Withdrawn(Event, subject="account.withdrawn"):
    amount: int


class Account(Struct, frozen=True):
    balance: int = 0


account = Decider("account", initial=Account)


@account.decides
def deposit(_account: Account, command: Deposit) -> Deposited:
    if not 0 < command.amount <= 1_000_000:
        raise Rejected("out_of_range", "deposit from 1 to 1000000 at a time")
    return Deposited(amount=command.amount)


@account.decides
def withdraw(account: Account, command: Withdraw) -> Withdrawn:
    if not 0 < command.amount <= account.balance:
        raise Rejected("not_covered", f"the balance is {account.balance}")
    return Withdrawn(amount=command.amount)


@account.evolves
def deposited(account: Account, event: Deposited) -> Account:
    return Account(account.balance + event.amount)


@account.evolves
def withdrawn(account: Account, event: Withdrawn) -> Account:
    return Account(account.balance - event.amount)


row = Table(
    "movement",
    MetaData(),
    Column("id", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("amount", BigInteger),
)
accounts = Projection("accounts", tables=[row])


@accounts.handles
def add(event: Deposited, record: RecordedEvent) -> Statement:
    return insert(row).values(id=record.aggregate_id, version=record.version, amount=event.amount)


@accounts.handles
def subtract(event: Withdrawn, record: RecordedEvent) -> Statement:
    return insert(row).values(id=record.aggregate_id, version=record.version, amount=-event.amount)


class AccountView(Struct):
    id: str
    balance: int


class GetAccount(Query[AccountView], subject="account.get"):
    """Show an account."""

    id: str


queries = QueryHandlers(accounts)


@queries.answers
def get_account(query: GetAccount, rows: Rows) -> AccountView:
    balance = select(row.c.id, func.sum(row.c.amount).label("balance"))
    own = balance.where(row.c.id == query.id).group_by(row.c.id)
    return rows.one(query, own, f"account {query.id}")


app = Application("bank", [account], projections=[accounts], queries=[queries], version="1.0.0")
