"""The service that is checked: accounts with limits, and transfers between them by a process."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, insert, select

from eventstore import (
    Application,
    Command,
    CommandContext,
    Decider,
    Event,
    Process,
    ProcessContext,
    Query,
    RecordedEvent,
    Rejected,
    Rejection,
    Send,
)
from eventstore.projections import Projection, Statement
from eventstore.projections.queries import QueryHandlers, Rows

Amount = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class Open(Command, subject="account.open"):
    limit: Amount


class ChangeLimit(Command, subject="account.change_limit"):
    limit: Amount


class Deposit(Command, subject="account.deposit"):
    amounts: Annotated[list[Amount], Meta(max_length=10)]


class Withdraw(Command, subject="account.withdraw"):
    amount: Amount


class Transfer(Command, subject="account.transfer"):
    target: str
    amount: Amount


class Receive(Command, subject="account.receive"):
    transfer: str
    amount: Amount


class Refund(Command, subject="account.refund"):
    transfer: str
    amount: Amount


class Opened(Event, subject="account.opened"):
    limit: int


class LimitChanged(Event, subject="account.limit_changed"):
    limit: int


class Deposited(Event, subject="account.deposited"):
    amount: int


class Withdrawn(Event, subject="account.withdrawn"):
    amount: int


class Sent(Event, subject="account.sent"):
    source: str
    target: str
    amount: int


class Received(Event, subject="account.received"):
    transfer: str
    amount: int


class Refunded(Event, subject="account.refunded"):
    transfer: str
    amount: int


class Account(Struct, frozen=True):
    is_open: bool = False
    balance: int = 0
    limit: int = 0


account = Decider("account", initial=Account, snapshot_every=20)


@account.decides
def open_account(account: Account, command: Open) -> Opened:
    if account.is_open:
        raise Rejected("already_open", "it is open")
    return Opened(limit=command.limit)


def _check_open(account: Account) -> None:
    if not account.is_open:
        raise Rejected("not_open", "it is not open")


def _check_covered(account: Account, amount: int) -> None:
    _check_open(account)
    if account.balance + account.limit < amount:
        raise Rejected("not_covered", f"{account.balance} of {amount}")


@account.decides
def change_limit(account: Account, command: ChangeLimit) -> LimitChanged | None:
    _check_open(account)
    if account.balance + command.limit < 0:
        raise Rejected("too_low", f"the balance is {account.balance}")
    return None if command.limit == account.limit else LimitChanged(limit=command.limit)


@account.decides
def deposit(account: Account, command: Deposit) -> list[Deposited]:
    _check_open(account)
    return [Deposited(amount=amount) for amount in command.amounts]


@account.decides
def withdraw(account: Account, command: Withdraw) -> Withdrawn:
    _check_covered(account, command.amount)
    return Withdrawn(amount=command.amount)


@account.decides
def transfer(account: Account, command: Transfer, context: CommandContext) -> Sent:
    _check_covered(account, command.amount)
    source = context.aggregate_id
    return Sent(source=source, target=command.target, amount=command.amount)


@account.decides
def receive(account: Account, command: Receive) -> Received:
    _check_open(account)
    return Received(transfer=command.transfer, amount=command.amount)


@account.decides
def refund(_account: Account, command: Refund) -> Refunded:
    return Refunded(transfer=command.transfer, amount=command.amount)


@account.evolves
def opened(account: Account, event: Opened) -> Account:
    return replace(account, is_open=True, limit=event.limit)


@account.evolves
def limit_changed(account: Account, event: LimitChanged) -> Account:
    return replace(account, limit=event.limit)


@account.evolves
def added(account: Account, event: Deposited | Received | Refunded) -> Account:
    return replace(account, balance=account.balance + event.amount)


@account.evolves
def taken(account: Account, event: Withdrawn | Sent) -> Account:
    return replace(account, balance=account.balance - event.amount)


class Source(Struct, frozen=True):
    account: str = ""


def _transfer_of(event: Sent | Received | Refunded, recorded: RecordedEvent) -> str:
    return recorded.id if isinstance(event, Sent) else event.transfer


transfers = Process("transfers", initial=Source, key=_transfer_of)


@transfers.evolves
def sent_by(_state: Source, event: Sent) -> Source:
    return Source(event.source)


@transfers.starts
def sent(_state: Source, event: Sent, context: ProcessContext) -> Send[Receive]:
    return Send(Receive(transfer=context.key, amount=event.amount), event.target)


@transfers.reacts
def refused(state: Source, rejection: Rejection[Receive], context: ProcessContext) -> Send[Refund]:
    refund = Refund(transfer=context.key, amount=rejection.command.amount)
    return Send(refund, state.account)


@transfers.ends
def over(_state: Source, _event: Received | Refunded) -> None:
    return None


_metadata = MetaData()
balances = Table(
    "balance",
    _metadata,
    Column("id", String(128), primary_key=True),
    Column("limit", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False),
)
movements = Table(
    "movement",
    _metadata,
    Column("id", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)
accounts = Projection("accounts", tables=[balances])
statement = Projection("statement", tables=[movements])


@accounts.handles
def insert_balance(event: Opened, record: RecordedEvent) -> Statement:
    return insert(balances).values(id=record.aggregate_id, limit=event.limit, balance=0)


@accounts.handles
def update_limit(event: LimitChanged, record: RecordedEvent) -> Statement:
    own = balances.c.id == record.aggregate_id
    return balances.update().where(own).values(limit=event.limit)


@accounts.handles
def add(event: Deposited | Received | Refunded, record: RecordedEvent) -> Statement:
    return _moved(record, event.amount)


@accounts.handles
def subtract(event: Withdrawn | Sent, record: RecordedEvent) -> Statement:
    return _moved(record, -event.amount)


def _moved(record: RecordedEvent, amount: int) -> Statement:
    own = balances.c.id == record.aggregate_id
    return balances.update().where(own).values(balance=balances.c.balance + amount)


@statement.handles
def insert_plus(event: Deposited | Received | Refunded, record: RecordedEvent) -> Statement:
    return _movement(record, event.amount)


@statement.handles
def insert_minus(event: Withdrawn | Sent, record: RecordedEvent) -> Statement:
    return _movement(record, -event.amount)


def _movement(record: RecordedEvent, amount: int) -> Statement:
    return insert(movements).values(id=record.aggregate_id, version=record.version, amount=amount)


class AccountView(Struct):
    id: str
    balance: int
    limit: int


class GetAccount(Query[AccountView], subject="account.get"):
    """Show an account."""

    id: str


queries = QueryHandlers(accounts)


@queries.answers
def get_account(query: GetAccount, rows: Rows) -> AccountView:
    own = select(balances).where(balances.c.id == query.id)
    return rows.one(query, own, f"account {query.id}")


app = Application(
    "ledger",
    [account],
    projections=[accounts, statement],
    queries=[queries],
    processes=[transfers],
    version="1.0.0",
)
