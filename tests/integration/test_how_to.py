"""The how-to pages, typed as they stand, one after another in one project.

What no page has, such as a web application around the service, is in the tests of the examples.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventstore.config import load_settings
from tests.conftest import started_server
from tests.integration.command_line import CommandLine
from tests.integration.pages import BLOCK, ROOT, Reader

HOW_TO = ROOT / "docs" / "how-to"
BANK = ROOT / "examples" / "bank.py"

BANK_APP = {"EVENTSTORE_APP": "bank:app"}

CUSTOMERS = '''

from msgspec import Struct

from eventstore import Command, Decider


class Register(Command, subject="customer.register"):
    email: str


class Customer(Struct, frozen=True):
    """One who is registered, or not yet."""


customer = Decider("customer", initial=Customer)


@customer.decides
def register(_customer: Customer, command: Register) -> Registered:
    return Registered(email=command.email)


@customer.evolves
def registered(customer: Customer, _event: Registered) -> Customer:
    return customer
'''
"""What a reader has beside the event that the page on personal data shows."""

PROJECT = """
from pathlib import Path

from bank import account, accounts, queries
from customers import customer
from eventstore import Application
from eventstore.projections.database import Migrations
from search import index

app = Application(
    "bank",
    [account, customer],
    projections=[accounts],
    queries=[queries],
    subscribers=[index],
    migrations=Migrations(Path(__file__).parent / "migrations"),
)
"""
"""An application that follows several pages."""


def page(name: str) -> str:
    return (HOW_TO / f"{name}.md").read_text(encoding="utf-8")


def halves(name: str, middle: str) -> tuple[str, str]:
    """A page before and after some words of it."""
    before, found, after = page(name).partition(middle)
    assert found
    return before, after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the bank alone."""
    shutil.copy(BANK, tmp_path)
    return tmp_path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def reader(folder: Path, stack: ExitStack) -> Reader:
    return Reader(folder, stack, is_terse=True)


@pytest.mark.timeout(240)
def test_the_tests_of_the_page_on_testing_pass(reader: Reader) -> None:
    reader.do(page("testing"))


@pytest.mark.timeout(240)
def test_a_project_does_what_one_page_after_another_says(
    folder: Path, reader: Reader, stack: ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    declared, reset = halves("not-sql", "To build it again")
    marked, forgotten = halves("forget-a-person", "When a person asks")
    reader.do(declared)
    reader.do(marked)
    reader.do(page("own-migrations"))

    customers = folder / "customers.py"
    customers.write_text(customers.read_text() + CUSTOMERS)
    (folder / "project.py").write_text(PROJECT)
    reader.cli.environ["EVENTSTORE_APP"] = "project:app"
    reader.do(page("several-processes"))
    sent(reader.cli, "account.deposit", '{"amount": 50}')
    reader.do(page("upgrade"))
    reader.do(reset)
    _move(reader, stack, tmp_path_factory)
    sent(reader.cli, "customer.register", '{"email": "ann@example.org"}')
    reader.do(forgotten)
    _back_up(reader, stack, tmp_path_factory)
    reader.stop()
    _keep_the_contract(folder, reader)


def _move(reader: Reader, stack: ExitStack, folders: pytest.TempPathFactory) -> None:
    """To another server."""
    url = reader.cli.server_url
    assert url is not None
    new = stack.enter_context(started_server(folders.mktemp("new")))
    moving = Reader(
        reader.cli.folder,
        stack,
        replaced={"nats://old:4222": url, "nats://new:4222": new.url},
        is_terse=True,
        environ=reader.cli.environ,
    )
    moving.do(page("move-a-log"))


def _back_up(reader: Reader, stack: ExitStack, folders: pytest.TempPathFactory) -> None:
    """And restore it elsewhere, with the same code and settings."""
    made, restored = halves("back-up", "Services go on meanwhile")
    settings = "service.toml"
    (reader.cli.folder / settings).touch()
    reader.do(made)
    elsewhere = folders.mktemp("elsewhere")
    (folder,) = reader.cli.folder.glob("backup-*")
    shutil.copytree(folder, elsewhere / folder.name)
    shutil.copytree(reader.cli.folder / "migrations", elsewhere / "migrations")
    for file in (*reader.cli.folder.glob("*.py"), *reader.cli.folder.glob("*.keys")):
        shutil.copy(file, elsewhere)
    (elsewhere / settings).touch()
    Reader(elsewhere, stack, is_terse=True, environ=reader.cli.environ).do(restored)


def _keep_the_contract(folder: Path, reader: Reader) -> None:
    made, compared = halves("contracts", "Commit `contract.json`")
    reader.do(made)
    bank = folder / "bank.py"
    event = 'class Deposited(Event, subject="account.deposited"):\n    amount: int\n'
    assert event in bank.read_text()
    bank.write_text(bank.read_text().replace(event, f"{event}    currency: str\n"))
    reader.do(compared)


def sent(cli: CommandLine, command: str, data: str) -> None:
    ended = cli.call("send", f"bank.cmd.{command}", "--id", "ann", "--data", data)
    assert ended.status == 0, ended


def test_a_cluster_of_three_is_configured(folder: Path, reader: Reader) -> None:
    """That such servers work, and a log moves to them, is in the tests of roles and of faults."""
    for name in ("server.pem", "server.key", "ca.pem"):
        (folder / name).touch()
    text = page("cluster-of-three")
    reader.do(text)
    names = {file.name for file in (folder / "nats").iterdir()}
    assert {"server-1.conf", "server-2.conf", "server-3.conf", "service.toml"} <= names

    ((_, settings),) = (each for each in BLOCK.findall(text) if each[0] == "toml")
    (folder / "own.toml").write_text(textwrap.dedent(settings))
    loaded = load_settings(folder / "own.toml", {})
    assert (loaded.streams.replicas, len(loaded.nats.url)) == (3, 3)


def test_read_models_are_in_postgresql(folder: Path, stack: ExitStack, new_postgresql: str) -> None:
    replaced = {"postgresql://shop:PASSWORD@db.example/shop": new_postgresql}
    reader = Reader(folder, stack, replaced=replaced, is_terse=True, environ=BANK_APP)
    reader.do(page("postgresql"))
    sent(reader.cli, "account.deposit", '{"amount": 50}')
    assert reader.cli.call("query", "account", "get", "ann", "--wait", "1").status == 0
    assert not list((folder / "var").glob("*.sqlite"))
    reader.stop()
