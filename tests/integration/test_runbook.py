"""Entries of `docs/runbook.md`, carried out by the commands that they show."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import nats
import pytest

from eventstore.server.embedded import EmbeddedServer
from tests.integration.command_line import BOUND, CommandLine, RunningProcess

APP = """
from typing import Annotated

from msgspec import Struct
from sqlalchemy import Column, Integer, MetaData, String, Table, insert

from eventstore import Application, Command, Decider, Event, Personal
from eventstore.projections import Projection


class Registered(Event, subject="customer.registered"):
    email: Annotated[str, Personal()]


class Register(Command, subject="customer.register"):
    email: str


class Customer(Struct, frozen=True):
    emails: tuple[str, ...] = ()


customer = Decider("customer", initial=Customer)


@customer.decides
def register(_customer: Customer, command: Register) -> Registered:
    return Registered(email=command.email)


@customer.evolves
def registered(customer: Customer, event: Registered) -> Customer:
    return Customer((*customer.emails, event.email))


def table(name):
    position = Column("position", Integer, primary_key=True)
    return Table(name, MetaData(), position, Column("host", String))


def hosts(name, on_poison):
    rows = table(name)
    projection = Projection(name, tables=[rows], on_poison=on_poison, retries=1)

    @projection.handles
    def added(event: Registered, recorded):
        host = event.email.split("@")[1]
        return insert(rows).values(position=recorded.position, host=host)

    return projection


projections = [hosts("careful", "stop"), hosts("patient", "park")]
app = Application("crm", [customer], projections=projections)
"""
MENDED = APP.replace('split("@")[1]', 'partition("@")[2]')


@pytest.fixture
def cli(tmp_path: Path, server: EmbeddedServer) -> CommandLine:
    (tmp_path / "crm.py").write_text(APP)
    made = CommandLine(
        tmp_path,
        EVENTSTORE_APP="crm:app",
        EVENTSTORE_DATABASE="rows.sqlite",
        NATS_URL=server.url,
        EVENTSTORE_MASTER_KEY_FILE="master.keys",
    )
    done(made, "keys new --name old --output master.keys")
    return made


def register(cli: CommandLine, own: str, email: str) -> None:
    data = json.dumps({"email": email})
    sent = cli.call("send", "crm.cmd.customer.register", "--id", own, "--data", data)
    assert (sent.status, sent.err) == (0, "")


def health(cli: CommandLine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli.call("health", "--json").lines[0])
    return found


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state(cli: CommandLine, name: str) -> tuple[str, int, int]:
    """The state of a projection, its position, and how many events it has parked."""
    lines = map(json.loads, cli.call("projection", "list", "--json").lines)
    (found,) = (each for each in lines if each["name"] == name)
    return found["state"], found["position"], found["parked"]


def rows(cli: CommandLine, table: str) -> list[str]:
    with closing(sqlite3.connect(cli.folder / "rows.sqlite")) as database:
        return [host for (host,) in database.execute(f"SELECT host FROM {table} ORDER BY 1")]  # noqa: S608


def test_a_poisoned_projection_is_seen_mended_and_goes_on(cli: CommandLine) -> None:
    with cli.serving() as running:
        for own, email in (("a", "ann@one.org"), ("b", "poison"), ("c", "cy@two.org")):
            register(cli, own, email)
        until(lambda: state(cli, "careful")[0] == "failed")
        until(lambda: state(cli, "patient") == ("live", 3, 1))

        assert state(cli, "careful") == ("failed", 1, 0)
        shown = cli.call("projection", "show", "careful")
        assert "stopped before Registered" in shown.out
        assert "IndexError" in shown.out
        check = health(cli)["details"]["projections"]
        assert check["status"] == "unhealthy"
        assert "careful" in str(check)
        assert 'eventstore_health{check="projections"} 2.0' in metrics(cli)
        assert 'eventstore_projection_parked_events{projection="patient"} 1.0' in metrics(cli)
        parked = cli.call("projection", "parked", "patient")
        assert parked.out.split()[0] == "2"
        ended = running.stopped()
        assert ended.status == 2
        assert "projection careful stopped before Registered" in ended.err

    (cli.folder / "crm.py").write_text(MENDED)
    with cli.serving() as running:
        until(lambda: state(cli, "careful") == ("live", 3, 0))
        retried = cli.call("projection", "retry", "patient")
        assert (retried.status, retried.out) == (0, "1 applied, 0 left\n")
        until(lambda: health(cli)["status"] == "healthy")
        assert rows(cli, "careful") == rows(cli, "patient") == ["", "one.org", "two.org"]
        assert running.stopped().status == 0


def test_the_master_key_is_rotated_while_commands_are_carried_out(cli: CommandLine) -> None:
    shutil.copy(cli.folder / "master.keys", cli.folder / "old.keys")
    with ExitStack() as stack:
        running = stack.enter_context(cli.serving())
        register(cli, "a", "ann@one.org")
        done(cli, "keys new --name new --output new.keys")
        for files in (("old.keys", "new.keys"), ("new.keys", "old.keys")):
            join(cli, *files)
            running = restarted(cli, stack, running)
        assert emails(cli, "a") == ["ann@one.org"]
        register(cli, "b", "ben@two.org")
        assert done(cli, "keys status") == (
            "master key new wraps 1 key\nmaster key old wraps 1 key\nforgotten: 0 subjects\n"
        )
        assert done(cli, "keys rewrap") == (
            "master key new wraps 2 keys, 1 of them rewrapped now; forgotten: 0 subjects\n"
        )
        register(cli, "c", "cy@three.org")
        status = done(cli, "keys status")
        assert status == "master key new wraps 3 keys\nforgotten: 0 subjects\n"
        join(cli, "new.keys")
        running = restarted(cli, stack, running)
        for own, email in (("a", "ann@one.org"), ("b", "ben@two.org"), ("c", "cy@three.org")):
            assert emails(cli, own) == [email]
            register(cli, own, email)
            assert emails(cli, own) == [email, email]
        assert health(cli)["status"] == "healthy"
        assert running.stopped().status == 0


def restarted(cli: CommandLine, stack: ExitStack, before: RunningProcess) -> RunningProcess:
    """Another service, which runs before the one before is stopped."""
    running = stack.enter_context(cli.serving())
    assert before.stopped(signal.SIGTERM).status == 0
    return running


def done(cli: CommandLine, words: str) -> str:
    ended = cli.call(*words.split())
    assert ended.status == 0, ended
    return ended.out


def join(cli: CommandLine, *files: str) -> None:
    """Give the processes the master keys of these files."""
    texts = [(cli.folder / each).read_text() for each in files]
    (cli.folder / "master.keys").write_text("".join(texts))


def emails(cli: CommandLine, own: str) -> list[str]:
    shown = cli.call("audit", "history", "customer", own, "--json")
    assert (shown.status, shown.err) == (0, "")
    found: list[str] = json.loads(shown.out)["state"]["emails"]
    return found


def metrics(cli: CommandLine) -> str:
    """What Prometheus reads, over NATS."""

    async def ask() -> str:
        connection = await nats.connect(cli.environ["NATS_URL"])
        try:
            return (await connection.request("metrics.crm", timeout=BOUND)).data.decode()
        finally:
            await connection.close()

    return asyncio.run(ask())
