"""A bank: a decider, a read model and a query. Run it with `eventstore --app bank:app serve`."""

from msgspec import Struct
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update

from eventstore import Application, Command, Decider, Event, Query, RecordedEvent, Rejected
from eventstore.projections import Projection, Statement
from eventstore.projections.queries import QueryHandlers, Rows


class OpenAccount(Command, subject="account.open", creates=True):
    owner: str


class Deposit(Command, subject="account.deposit"):
    amount: int


class Withdraw(Command, subject="account.withdraw"):
    amount: int


class AccountOpened(Event, subject="account.opened"):
    owner: str


class BalanceChanged(Event, subject="account.balance_changed"):
    by: int


class Account(Struct, frozen=True):
    owner: str = ""
    balance: int = 0


account = Decider("account", initial=Account)


@account.decides
def open_account(account: Account, command: OpenAccount) -> AccountOpened:
    if account.owner:
        raise Rejected("already_open", f"it is {account.owner}'s")
    return AccountOpened(owner=command.owner)


@account.decides
def deposit(account: Account, command: Deposit) -> BalanceChanged:
    if not account.owner or command.amount <= 0:
        raise Rejected("not_possible", "it needs an open account and a positive amount")
    return BalanceChanged(by=command.amount)


@account.decides
def withdraw(account: Account, command: Withdraw) -> BalanceChanged:
    if not 0 < command.amount <= account.balance:
        raise Rejected("not_covered", f"the balance is {account.balance}")
    return BalanceChanged(by=-command.amount)


@account.evolves
def opened(_account: Account, event: AccountOpened) -> Account:
    return Account(owner=event.owner)


@account.evolves
def changed(account: Account, event: BalanceChanged) -> Account:
    return Account(owner=account.owner, balance=account.balance + event.by)


tables = MetaData()
row = Table(
    "account",
    tables,
    Column("id", String(128), primary_key=True),
    Column("owner", String, nullable=False),
    Column("balance", Integer, nullable=False),
)
accounts = Projection("accounts", tables=[row])


@accounts.handles
def add(event: AccountOpened, recorded: RecordedEvent) -> Statement:
    return insert(row).values(id=recorded.aggregate_id, owner=event.owner, balance=0)


@accounts.handles
def change(event: BalanceChanged, recorded: RecordedEvent) -> Statement:
    own = row.c.id == recorded.aggregate_id
    return update(row).where(own).values(balance=row.c.balance + event.by)


class AccountView(Struct):
    id: str
    owner: str
    balance: int


class GetAccount(Query[AccountView], subject="account.get"):
    """Show an account."""

    id: str


queries = QueryHandlers(accounts)


@queries.answers
def get_account(query: GetAccount, rows: Rows) -> AccountView:
    return rows.one(query, select(row).where(row.c.id == query.id), f"account {query.id}")


app = Application(
    "bank", [account], projections=[accounts], queries=[queries], tables=[tables], version="1.0.0"
)
