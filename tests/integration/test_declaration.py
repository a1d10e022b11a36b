"""An application that is declared once: run whole or in parts, as a client, by command line."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table

from eventstore import Application, CommandClient, Event, Query, RecordedEvent, Subscriber
from eventstore.application import ApplicationClient
from eventstore.application.service import RunningApplication
from eventstore.cli.applications import find_application, load_application
from eventstore.config import ReadModelSettings, Settings
from eventstore.errors import ConfigurationError, NoResponders, ProjectionError, UnknownType
from eventstore.projections import Projection
from eventstore.projections.database import Migrations
from eventstore.projections.queries import QueryHandlers, Rows
from eventstore.service.health import HealthReport
from examples import bank, todo
from tests.connection import settings_for
from tests.integration.command_line import BOUND, ROOT, CommandLine


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of the shared server, under a prefix and with a read model of the test's own."""
    assert settings.nats.subject_prefix is not None
    made = settings_for(settings.nats.url[0], settings.nats.subject_prefix)
    return made.in_directory(tmp_path)


async def paid_in(service: RunningApplication | ApplicationClient) -> int:
    await service.execute(bank.Deposit(amount=3), "a")
    outcome = await service.execute(bank.Deposit(amount=4), "a")
    assert outcome.status == "success", outcome
    return outcome.position


async def test_a_whole_service_runs_inside_a_program(own: Settings) -> None:
    async with asyncio.timeout(BOUND), bank.app.running(own) as service:
        position = await paid_in(service)
        view = await service.ask(bank.GetAccount(id="a"), wait_for=position)
        health = await service.client.request("health.bank", timeout=BOUND)
    assert view.balance == 7
    assert b'"service":"bank"' in health.data


async def test_a_declared_subscriber_is_bound_to_the_running_application(own: Settings) -> None:
    """Of each deposit, one goes to the savings."""
    gift, given = Subscriber("gift", backoff=0.001), asyncio.Event()

    @gift.handles
    async def deposited(
        _event: bank.Deposited,
        recorded: RecordedEvent,
        *,
        commands: CommandClient,
        service: RunningApplication,
    ) -> None:
        assert service.app is app
        if not recorded.aggregate_id.endswith("-savings"):
            savings = f"{recorded.aggregate_id}-savings"
            outcome = await commands.execute(bank.Deposit(amount=1), savings)
            assert outcome.version == 1
            given.set()

    app = Application("bank", [bank.account], subscribers=[gift])
    async with asyncio.timeout(BOUND), app.running(own, projections=False) as service:
        await service.execute(bank.Deposit(amount=1), "a")
        await given.wait()
        health = await service.client.request("health.bank", timeout=BOUND)
    report = HealthReport.from_json(health.data)
    assert report.checks["subscribers"]["status"] == "healthy"
    assert list(report.checks["subscribers"]["subscribers"]) == ["gift"]
    with pytest.raises(ConfigurationError, match="subscriber gift is given twice to application"):
        Application("bank", [bank.account], subscribers=[gift, gift])


async def test_processes_of_a_fleet_run_its_parts_apart(own: Settings) -> None:
    async with (
        asyncio.timeout(BOUND),
        bank.app.running(own, projections=False, queries=False, feed=False) as worker,
        bank.app.client(own) as client,
    ):
        position = await paid_in(client)
        assert worker.projections is None
        with pytest.raises(ConfigurationError, match="no read model"):
            _ = worker.read_model
        with pytest.raises(NoResponders):
            await client.ask(bank.GetAccount(id="a"))
        async with bank.app.running(own, worker=False) as reader:
            await reader.wait(position, "accounts", BOUND)
            view = await client.ask(bank.GetAccount(id="a"), wait_for=position)
    assert view.balance == 7


async def test_two_applications_with_default_settings_never_touch_each_other(
    own: Settings, tmp_path: Path
) -> None:
    url = own.nats.url[0]
    names = [f"{own.nats.subject_prefix}{each}" for each in "xy"]
    apps = [Application(name, [bank.account]) for name in names]
    rows = [ReadModelSettings(database=str(tmp_path / f"{name}.sqlite")) for name in names]
    each = [settings_for(url, name) for name in names]
    plain = [Settings(nats=s.nats, read_model=r) for s, r in zip(each, rows, strict=True)]
    async with (
        asyncio.timeout(BOUND),
        apps[0].running(plain[0]) as one,
        apps[1].running(plain[1]) as other,
    ):
        await one.execute(bank.Deposit(amount=1), "a")
        await other.execute(bank.Deposit(amount=2), "a")
        amounts = [
            event.data.amount
            for service in (one, other)
            async for event in service.store.read("account", "a")
            if isinstance(event.data, bank.Deposited)
        ]
    assert amounts == [1, 2]


def table(name: str) -> Table:
    return Table(name, MetaData(), Column("id", String(8), primary_key=True))


class Elsewhere(Event, subject="elsewhere.happened"):
    pass


@pytest.mark.parametrize("kind", ["projection", "subscriber"])
def test_a_handler_of_an_event_that_no_decider_has_is_refused(kind: str) -> None:
    reports = Projection("reports", tables=[table("t")])
    mailer = Subscriber("reports")

    @reports.handles
    def reported(_event: Elsewhere, _recorded: RecordedEvent) -> None: ...

    @mailer.handles
    async def mailed(_event: Elsewhere, _recorded: RecordedEvent) -> None: ...

    declared: dict[str, Any] = {"projections": [reports], "subscribers": [mailer]}
    problem = f"^application shop: {kind} reports: no decider of shop evolves by Elsewhere"
    with pytest.raises(ConfigurationError, match=problem):
        Application("shop", [bank.account], **{f"{kind}s": declared[f"{kind}s"]})


def test_what_does_not_fit_is_refused_when_it_is_declared() -> None:
    one = Projection("one", tables=[table("t")])
    shared = Projection("two", tables=[table("t")])
    with pytest.raises(ConfigurationError, match="table t is given twice to application shop"):
        Application("shop", [bank.account], projections=[one, shared])
    with pytest.raises(ConfigurationError, match="projection one is given twice"):
        Application("shop", [bank.account], projections=[one, one])
    ours = table("eventstore_rows").metadata
    with pytest.raises(ProjectionError, match=r"^application shop: .*; rename eventstore_rows$"):
        Application("shop", [bank.account], tables=[ours])
    with pytest.raises(ConfigurationError, match="queries read the projection one, which it does"):
        Application("shop", [bank.account], queries=[QueryHandlers(one)])


async def coroutine(_service: object) -> None:
    pass


class OwnHistory(Query[int], subject="audit.history"):
    pass


mail, mails = Subscriber("mail"), Projection("mails", tables=[table("mail")])
own_history = QueryHandlers(mails)


@own_history.answers
def history(_query: OwnHistory, _rows: Rows) -> int:
    return 0


@mails.handles
def mailed(_event: todo.TodoAdded) -> None:
    pass


@mail.handles
async def completed(_event: todo.TodoCompleted, _recorded: RecordedEvent) -> None:
    pass


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"deciders": bank.account}, "deciders is one Decider: write"),
        ({"deciders": [bank.Account]}, "deciders has <class .*>, a StructMeta and not a Decider"),
        ({"projections": [table("t")]}, "projections has Table.*, a Table and not a Projection"),
        ({"queries": [bank.GetAccount]}, "queries has <class .*>, .* and not a QueryHandlers"),
        ({"subscribers": [coroutine]}, "subscribers has <function .* and not a Subscriber"),
        ({"tables": [table("t")]}, "tables has Table.* and not a MetaData"),
        ({"version": "1.2"}, "the service's version '1.2' is not a semantic version"),
        ({"service": "a b"}, "the service's name 'a b' is not up to 64 letters"),
        ({"projections": [Projection("audit", tables=[table("t")])]}, "audit is the library's"),
        (
            {
                "projections": [Projection("p", tables=[table("T")])],
                "tables": [table("t").metadata],
            },
            "has two definitions of table T",
        ),
        ({"projections": [mails]}, "projection mails: no decider of .* evolves by TodoAdded"),
        ({"subscribers": [mail]}, "subscriber mail: no decider of .* evolves by TodoCompleted"),
        (
            {"deciders": [todo.todo], "projections": [mails], "queries": [own_history]},
            r"the query audit\.history is the library's",
        ),
    ],
)
def test_what_could_not_run_is_refused_when_it_is_declared(
    given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^application shop.*{problem}"):
        Application("shop", **{"deciders": [bank.account], **given})


def test_the_tables_of_projections_are_created_unless_migrations_do() -> None:
    one, other = table("one"), table("other")
    projection = Projection("rows", tables=[one])
    named = [one.metadata, other.metadata]
    migrations = Migrations(ROOT / "examples" / "shop" / "shop" / "migrations")

    own = Application("shop", [bank.account], projections=[projection])
    assert own.own_tables() == [one]
    more = Application("shop", [bank.account], projections=[projection], tables=named)
    assert more.own_tables() == [one, other]
    migrated = Application(
        "shop",
        [bank.account],
        projections=[projection],
        tables=[other.metadata],
        migrations=migrations,
    )
    assert migrated.own_tables() == [other]


# The command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the bank, and modules that are no application."""
    (tmp_path / "ledger.py").write_text((ROOT / "examples" / "bank.py").read_text())
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "raising.py").write_text("raise RuntimeError('not today,\\n no')\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    for name in ("EVENTSTORE_APP", "EVENTSTORE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("ledger", "'ledger' is not of the form module:object"),
        ("nobody:app", "there is no module 'nobody'"),
        ("ledger:nope", "ledger has no nope"),
        ("ledger:Account", "ledger:Account is not an Application, but a StructMeta"),
        ("broken:app", "importing broken:app failed: ModuleNotFoundError: No module named 'nothin"),
        (
            "raising:app",
            "importing raising:app failed: RuntimeError: not today, no ({}, line 1)",
        ),
        ("leaving:app", "importing leaving:app failed: SystemExit: 3 ({}, line 1)"),
        (".ledger:app", "'.ledger:app' is not of the form module:object"),
        ("./ledger:app", "'./ledger:app' is not of the form module:object"),
    ],
)
def test_a_wrong_application_is_named(folder: Path, target: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        load_application(target, "--app")
    module = folder / f"{target.partition(':')[0]}.py"
    assert str(failure.value).startswith(f"--app: {problem.format(module)}")


def test_an_application_is_found_by_variable_configuration_file_and_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_application().name == "nix"
    (folder / "pyproject.toml").write_text('[tool.eventstore]\napp = "ledger:app"\n')
    assert find_application().name == "bank"
    (folder / "own.toml").write_text('app = "nobody:app"\n')
    with pytest.raises(ConfigurationError, match=r"own.toml: app: there is no module"):
        find_application(Path("own.toml"))
    monkeypatch.setenv("EVENTSTORE_APP", "ledger:nope")
    with pytest.raises(ConfigurationError, match="EVENTSTORE_APP: ledger has no nope"):
        find_application(Path("own.toml"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[tool.eventstore", "pyproject.toml is not TOML: "),
        ("[tool.eventstore]\napp = 3", 'tool.eventstore.app is not a string: write app = "module'),
        ('[tool.eventstore]\napps = "a:b"', "tool.eventstore.apps is not known; it has only app"),
        ("[tool]\neventstore = 1", r"tool.eventstore is no table: write \[tool.eventstore\]"),
        ("tool = 1", "tool.eventstore is no table"),
    ],
)
def test_a_project_that_names_no_application_is_refused(
    folder: Path, text: str, problem: str
) -> None:
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        find_application()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "own.toml cannot be read: No such file"),
        ("app =", "own.toml is not TOML: "),
        ("[app]\nmodule = 'a'", 'own.toml: app is not a string: write app = "module:object"'),
    ],
)
def test_a_configuration_file_that_names_no_application_is_refused(
    folder: Path, text: str | None, problem: str
) -> None:
    if text is not None:
        (folder / "own.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        find_application(Path("own.toml"))


@pytest.mark.parametrize("words", ["--config own.toml", "--config=own.toml"])
def test_a_query_is_of_the_application_in_the_configuration_file(folder: Path, words: str) -> None:
    (folder / "own.toml").write_text('app = "ledger:app"\n')
    helped = CommandLine(folder).call("query", "account", "get", *words.split(), "--help")
    assert "Show an account." in helped.out, helped


@pytest.fixture(scope="module")
def bank_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A folder with the bank alone, where its service runs and a deposit was made."""
    folder = tmp_path_factory.mktemp("bank")
    (folder / "bank.py").write_text((ROOT / "examples" / "bank.py").read_text())
    cli = CommandLine(folder, EVENTSTORE_APP="bank:app")
    with cli.serving() as running:
        words = ("bank.cmd.account.deposit", "--id", "a", "--data", '{"amount": 7}')
        deposited = cli.call("send", *words)
        assert deposited.status == 0, deposited
        yield cli
        assert running.stopped().status == 0


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("events", "Deposited account a v1"),
        ("query account get a --wait 1", "balance  7"),
        ("query --help", "account get  Show an account."),
        ("audit history account a", '"balance": 7'),
        ("audit verify", "nothing is missing"),
        ("audit search", "Deposit"),
        ("audit anchor", '"domain": "bank"'),
        ("projection list", "accounts"),
        ("projection rebuild accounts", "accounts: done"),
        ("health", "healthy bank 1.0.0"),
        ("discover", "bank"),
        ("config get", ""),
        ("parked list", "nothing is parked"),
        ("export log.gz", ""),
    ],
)
def test_every_subcommand_works_for_any_application(
    bank_service: CommandLine, words: str, shown: str
) -> None:
    ended = bank_service.call(*words.split())
    assert ended.status == 0, ended
    assert shown in ended.out + ended.err


def test_a_command_without_the_id_that_it_needs_is_refused(bank_service: CommandLine) -> None:
    ended = bank_service.call("send", "bank.cmd.account.deposit", "--data", '{"amount": 1}')
    assert ended.status == 2
    assert "X-Aggregate-ID is missing: Deposit needs the id of its account (--id)" in ended.out


def test_an_id_that_no_message_has_may_be_that_of_an_aggregate(bank_service: CommandLine) -> None:
    ended = bank_service.call("audit", "trace", str(uuid.uuid4()))
    assert ended.status == 2
    assert "if it is an aggregate's, use audit history or audit search" in ended.err


def test_a_database_of_another_application_has_no_rows_of_the_nix_domain(
    bank_service: CommandLine,
) -> None:
    listed = bank_service.call("projection", "list", "--json")
    assert "flakes" not in listed.out
    with closing(sqlite3.connect(bank_service.folder / "var" / "read_model.sqlite")) as rows:
        names = {name for (name,) in rows.execute("SELECT name FROM sqlite_master")}
    tables = {name for name in names if not name.startswith(("eventstore_", "ix_", "sqlite_"))}
    assert tables == {"movement"}


def test_an_application_has_a_program_of_its_own(bank_service: CommandLine) -> None:
    def run(*words: str) -> str:
        program = "from bank import app; app.cli()"
        return subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=bank_service.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND,
        ).stdout

    assert "Deposited account a v1" in run("events")
    assert run("--version") == "bank 1.0.0\n"
    helped = run("--help")
    assert "The service bank." in helped
    assert not re.search("nix|demo|--app", helped, re.IGNORECASE)


async def test_the_state_of_an_aggregate_is_loaded_by_its_decider(own: Settings) -> None:
    account = uuid.uuid4()
    async with (
        asyncio.timeout(BOUND),
        bank.app.running(own, projections=False, queries=False, feed=False) as service,
        bank.app.client(own) as client,
    ):
        await service.execute(bank.Deposit(amount=3), account)
        await client.execute(bank.Deposit(amount=4), account, expected=1)
        for each in (service, client):
            loaded = await each.load("account", account, leader=True)
            assert loaded == await each.load("account", str(account))
            assert loaded == bank.Account(balance=7)
            assert await each.load("account", "nobody") == bank.account.initial()
        with pytest.raises(UnknownType, match="unknown aggregate 'acount'; known are account"):
            await client.load("acount", account)


async def test_the_clock_of_an_application_gives_all_times(own: Settings) -> None:
    noon = datetime(2001, 1, 1, 12, tzinfo=UTC)
    app = Application("bank", [bank.account], clock=lambda: noon)
    async with (
        asyncio.timeout(BOUND),
        app.running(own, projections=False, queries=False, feed=False) as service,
    ):
        await service.execute(bank.Deposit(amount=1), "a")
        await service.store.append("account", "b", bank.Deposited(amount=1))
        times = [event.envelope.timestamp async for event in service.store.read_all()]
    async with (
        asyncio.timeout(BOUND),
        app.running(own, worker=False, projections=False, queries=False, feed=False) as service,
    ):
        command = await service.send(bank.Deposit(amount=1), "a")
        stream = service.domain.codec.subjects.command_stream
        sent = await service.client.nats.jetstream().get_msg(stream, command.sequence)
    assert times == ["2001-01-01T12:00:00.000000Z"] * 2
    assert sent.headers is not None
    assert sent.headers["X-Timestamp"].startswith("2001-01-01T12:00")


async def test_a_health_check_leaves_no_line_in_the_log(
    own: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(BOUND), bank.app.running(own) as service:
        await service.execute(bank.Deposit(amount=1), "a")
        with caplog.at_level(logging.INFO):
            caplog.clear()
            for _ in range(3):
                answer = await service.client.request("health.bank", timeout=BOUND)
                assert b'"database":{"status":"' in answer.data
                await asyncio.sleep(0.3)  # a report is cached for less
            lines = [
                each.getMessage()
                for each in caplog.records
                if "feed" not in each.name
                and "service.health" not in each.name  # on a busy machine it is degraded
            ]
    assert lines == []
