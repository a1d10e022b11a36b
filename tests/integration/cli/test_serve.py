"""`eventstore serve`: start, ready line, failures, and stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import pytest

from eventstore.client.client import Client
from eventstore.config import redacted_url
from eventstore.nix import samples
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import started_server
from tests.integration.command_line import BOUND, CommandLine, RunningProcess
from tests.ports import free_ports

WAITING = "WARNING: waiting for a server, 60 s more at most: "
CREATE = ("send", "nix.cmd.flake.create", "--data", '{"path": "./x", "description": "x"}')


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def external(cli: CommandLine, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    """With a configuration that keeps the test apart from others on the shared server."""
    (cli.folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    cli.environ |= {"EVENTSTORE_CONFIG": "own.toml", "NATS_URL": nats_server.url}
    return cli


@pytest.fixture(scope="module")
def without_jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server without JetStream."""
    directory = tmp_path_factory.mktemp("plain")
    with started_server(directory, extra_config="jetstream: disabled") as server:
        yield server.url


def assert_ends(pid: int) -> None:
    """Wait until the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor, closefd=True):
        assert select.select([descriptor], [], [], BOUND)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_one_line_and_stops_with_its_server_after_a_signal(
    cli: CommandLine, number: signal.Signals
) -> None:
    with cli.start("serve", forked=False) as service:
        ready = service.line()
        url, pid = cli.server_url, cli.server_pid()
        ended = service.stopped(number)

    assert ready.startswith("ready: cim-domain-nix ")
    assert ready.endswith(f"on {redacted_url(str(url))}, read model var/read_model.sqlite")
    notice = "stopping: finishing the work in progress\nstopped\n"
    assert ended == (0, "", notice)
    assert cli.server_url is None
    assert_ends(pid)


def test_a_second_ctrl_c_does_not_wait_for_work_in_progress(cli: CommandLine) -> None:
    with cli.serving() as service:
        assert service.process.stderr is not None
        pid = cli.server_pid()
        os.kill(pid, signal.SIGSTOP)  # so that an orderly shutdown would take long
        service.send(signal.SIGINT)
        assert "stopping" in service.process.stderr.readline()
        ended = service.stopped(signal.SIGINT, seconds=9)  # the server's time to end is 10 s
        os.kill(pid, signal.SIGCONT)

    assert (ended.status, ended.err) == (-signal.SIGINT, "")
    assert_ends(pid)
    assert cli.call("demo", samples()[0]).status == 0


def test_a_signal_while_it_starts_ends_it_too(cli: CommandLine) -> None:
    timeouts = cli.folder / "timeouts.toml"
    timeouts.write_text("[nats.retry]\nconnect_timeout_ms = 3_600_000\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        silent.settimeout(BOUND)
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        with cli.start("serve", "--config", timeouts, "--nats-url", url) as service:
            connection, _ = silent.accept()
            with connection:
                ended = service.stopped(signal.SIGTERM)

    assert ended == (0, "", "")


@pytest.mark.parametrize("way", ["option", "environment", "file"])
def test_the_server_is_named_in_any_of_three_ways(
    cli: CommandLine, nats_server: EmbeddedServer, domain_name: str, way: str
) -> None:
    url = nats_server.url
    named = f'url = "{url}"' if way == "file" else ""
    (cli.folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n{named}')
    words: list[object] = ["--config", "own.toml"]
    if way == "option":
        words += ["--nats-url", url]
    if way == "environment":
        cli.environ |= {"NATS_URL": url}
    subject = CREATE[1].replace("nix", domain_name, 1)

    with cli.start("serve", *words, "--database", "rows.sqlite") as service:
        assert service.line().endswith(f"on {redacted_url(url)}, read model rows.sqlite")
        assert cli.call("send", subject, *CREATE[2:], *words).status == 0
        assert len(cli.call("events", *words).lines) == 1
        assert cli.call("nix", "import", *words, samples()[0]).status == 0
        assert service.stopped().status == 0

    assert not (cli.folder / "var").exists()
    with closing(sqlite3.connect(cli.folder / "rows.sqlite")) as rows:
        assert rows.execute("SELECT count(*) FROM flake").fetchone() == (2,)


@pytest.mark.parametrize("words", [("serve",), ("demo",)])
def test_a_server_that_cannot_be_reached_is_one_clear_line_soon(
    cli: CommandLine, words: tuple[str, ...]
) -> None:
    """Within a part of the minute that is waited where nothing is set."""
    (cli.folder / "soon.toml").write_text("[nats.retry]\nfirst_connect_ms = 100\n")
    began = time.monotonic()
    ended = cli.call(*words, "--nats-url", "nats://127.0.0.1:1", "--config", "soon.toml")

    assert time.monotonic() - began < 30
    assert ended.status == 2
    assert ended.err.startswith("error: no server answered at nats://127.0.0.1:1: ")
    assert ended.err.count("\n") == 1


def test_a_locked_read_model_stops_nothing_else(cli: CommandLine) -> None:
    """Commands continue, queries answer from existing rows, and health reports the lock."""
    with cli.serving() as service:
        assert cli.call(*CREATE).status == 0
        read_model = cli.folder / "var" / "read_model.sqlite"
        with closing(sqlite3.connect(read_model, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            sent = json.loads(cli.call(*CREATE, "--json").out)
            assert sent["status"] == "success"
            problems = until_degraded(cli, "database", "projections")
            assert "database is locked" in problems["database"]
            assert "flakes: retrying: read model" in problems["projections"]
            assert cli.call("query", "flake", "list").status == 0
            late = cli.call("query", "flake", "list", "--wait", sent["position"], "--timeout", 1)
            assert late.status == 2
            other.execute("ROLLBACK")
        found = cli.call("query", "flake", "list", "--wait", sent["position"])
        assert "2 items" in found.out
        until_healthy(cli)
        ended = service.stopped()
    assert ended.status == 0
    assert "database is locked; tried for" in ended.err
    assert "can be written again" in ended.err


def test_it_stops_while_its_read_model_is_locked(cli: CommandLine) -> None:
    with cli.serving() as service:
        read_model = cli.folder / "var" / "read_model.sqlite"
        with closing(sqlite3.connect(read_model, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert cli.call(*CREATE).status == 0
            until_degraded(cli, "projections")
            assert service.stopped().status == 0
            other.execute("ROLLBACK")
    with cli.serving():
        assert "1 item" in cli.call("query", "flake", "list").out


def until_degraded(cli: CommandLine, *checks: str) -> dict[str, str]:
    """The problems in the health report, once these checks have some."""
    deadline = time.monotonic() + BOUND
    while not (problems := degraded(cli)).keys() >= set(checks):
        assert time.monotonic() < deadline, problems
    return problems


def until_healthy(cli: CommandLine) -> None:
    """Return when no check has a problem: each projection retries after a delay of its own."""
    deadline = time.monotonic() + BOUND
    while problems := degraded(cli):
        assert time.monotonic() < deadline, problems


def degraded(cli: CommandLine) -> dict[str, str]:
    """The problems in the health report by check; empty if it is healthy."""
    report = json.loads(cli.call("health", "--json").out)
    if report["status"] == "healthy":
        return {}
    assert report["status"] == "degraded"
    checks = {name: each for name, each in report["details"].items() if isinstance(each, dict)}
    return {name: each["problem"] for name, each in checks.items() if "problem" in each}


def waiting(service: RunningProcess, url: str) -> None:
    """Return when a service logs that it waits for a server, with its URL and the reason."""
    assert service.process.stderr is not None
    notice = service.process.stderr.readline()
    assert notice.partition(" ")[2].startswith(WAITING)
    assert url in notice
    assert "refused" in notice or "Connect call failed" in notice


def test_it_waits_for_a_server_that_starts_later(cli: CommandLine, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    url = f"nats://ann:s3cret@127.0.0.1:{port}"
    ann = "authorization { user: ann, password: s3cret }"
    server = EmbeddedServer(tmp_path / "late", port=port, extra_config=ann)
    with cli.start("serve", "--nats-url", url) as service:
        waiting(service, f"nats://***@127.0.0.1:{port}")
        asyncio.run(server.start())
        try:
            assert service.line().startswith("ready: ")
            assert service.stopped().status == 0
        finally:
            asyncio.run(server.stop())


def test_ctrl_c_while_it_waits_for_a_server_is_status_130(cli: CommandLine) -> None:
    url = "nats://127.0.0.1:1"
    with cli.start("serve", "--nats-url", url) as service:
        waiting(service, url)
        ended = service.stopped(signal.SIGINT, seconds=30)

    assert ended == (130, "", "")


@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        CREATE,
        ("events",),
        ("query", "flake", "list"),
        ("config", "get"),
        ("parked", "list"),
        ("command", "status", "0f5c3a52-6c0e-5d3b-9f2e-6f1d3a6f7c41"),
        ("nix", "import", str(samples()[0])),
        ("audit", "verify"),
        ("export", "log.gz"),
    ],
    ids=lambda words: words[0],
)
def test_a_server_without_jetstream_is_named_as_that(
    cli: CommandLine, without_jetstream: str, words: tuple[str, ...]
) -> None:
    ended = cli.call(*words, "--nats-url", without_jetstream)

    assert ended.status == 2
    url = redacted_url(without_jetstream)
    assert f"JetStream is not enabled on {url}: start nats-server with -js" in ended.err + ended.out
    assert (ended.err + ended.out).count("\n") <= 2


def test_the_databases_directory_is_made(cli: CommandLine) -> None:
    cli.environ |= {"EVENTSTORE_DATABASE": "a/b/rows.sqlite"}
    assert cli.call("demo", samples()[0]).status == 0
    assert (cli.folder / "a" / "b" / "rows.sqlite").exists()
    assert not (cli.folder / "var" / "read_model.sqlite").exists()


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("/dev/null/rows.sqlite", "Not a directory|File exists"),
        ("/proc/rows.sqlite", "unable to open|No such file"),
        ("text", "file is not a database"),
        ("directory", "unable to open database file"),
        (":memory:", "not a file"),
        (
            "postgresql://u:secret@127.0.0.1:1/d",
            r"cannot use postgresql://u:\*\*\*@127\.0\.0\.1:1/d as",
        ),
        ("oracle://u:secret@h/d", "use sqlite:///path"),
        ("nonsense://", "nonsense"),
    ],
)
def test_an_unusable_database_is_one_clear_line(
    cli: CommandLine, location: str, problem: str
) -> None:
    (cli.folder / "text").write_text("no database, but long enough to be read as the head of one")
    (cli.folder / "directory").mkdir()
    before = cli.files()
    ended = cli.call("serve", "--database", location)

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("error: ")
    assert re.search(problem, ended.err), ended.err
    assert "secret" not in ended.err
    assert cli.files() == before, "and no server was started"


def test_an_unusable_directory_is_one_clear_line(cli: CommandLine) -> None:
    ended = cli.call("serve", "--dir", "/dev/null", "--database", "rows.sqlite")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "error: --dir /dev/null cannot be used: [Errno 20] Not a directory: " + (
        "'/dev/null/nats'\n"
    )


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"NATS_USER": "u"}, "NATS_USER is given without nats.auth.password or NATS_PASSWORD"),
        ({"NATS_PASSWORD": "p"}, "NATS_PASSWORD is given without nats.auth.user or NATS_USER"),
        ({"NATS_TOKEN": "t", "NATS_CREDS": "own.toml"}, "NATS_TOKEN, NATS_CREDS; keep one"),
        ({"NATS_CREDS": "missing"}, "NATS_CREDS: missing cannot be read"),
        ({"NATS_URL": "http://x"}, "NATS_URL: 'http://x' must start with"),
        ({"EVENTSTORE_CONFIG": "missing"}, "missing (named by EVENTSTORE_CONFIG) cannot be read"),
        ({"EVENTSTORE_CONFIG": "bad.toml"}, " is not TOML: "),
        ({"EVENTSTORE_CONFIG": "own.toml"}, "own.toml: nats.urll is not known; did you mean"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [("serve",), ("demo",), CREATE, ("events",), ("nix", "import", samples()[0])],
    ids=lambda words: " ".join(map(str, words[:2])),
)
def test_unusable_settings_are_one_clear_line_in_every_subcommand(
    cli: CommandLine, words: tuple[object, ...], environ: dict[str, str], problem: str
) -> None:
    (cli.folder / "own.toml").write_text('[nats]\nurll = "x"')
    (cli.folder / "bad.toml").write_text("nats")
    before = cli.files()
    cli.environ |= environ
    ended = cli.call(*words)

    assert ended.status == 2
    assert problem in ended.out + ended.err
    if words is not CREATE:
        assert (ended.out, ended.err.count("\n")) == ("", 1)
    assert cli.files() == before


def test_a_second_service_in_the_folder_is_refused_and_the_first_continues(
    cli: CommandLine,
) -> None:
    with cli.serving() as first:
        second = cli.call("serve")
        assert second.status == 2
        assert (
            f"a service runs in var already, on {redacted_url(str(cli.server_url))}" in second.err
        )
        assert cli.call(*CREATE).status == 0
        assert first.stopped().status == 0


def test_a_read_model_that_cannot_be_locked_is_one_clear_line(external: CommandLine) -> None:
    (external.folder / "rows.sqlite.locks" / "projection-flakes").mkdir(parents=True)
    ended = external.call("serve", "--database", "rows.sqlite")

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("error: the read model cannot be locked: ")


def test_a_read_model_of_another_log_is_refused(cli: CommandLine) -> None:
    assert cli.call("demo", "--database", "rows.sqlite", samples()[0]).status == 0
    assert cli.call("demo", "--dir", "new", "--database", "new.sqlite", samples()[1]).status == 0
    ended = cli.call("serve", "--dir", "new", "--database", "rows.sqlite")

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "at position 4 was built from another log: from 20" in ended.err
    assert "Name another database with --database" in ended.err


def test_a_deleted_read_model_is_rebuilt(cli: CommandLine) -> None:
    assert cli.call("demo", samples()[0]).status == 0
    for file in (cli.folder / "var").glob("read_model.sqlite*"):
        if file.is_dir():
            continue  # a lock file
        file.unlink()

    ended = cli.call("demo", samples()[0])
    assert ended.status == 0
    assert "\nflake, 1 row\n" in ended.out


def test_a_service_starts_after_one_that_was_killed(cli: CommandLine) -> None:
    with cli.serving() as service:
        assert cli.call(*CREATE, "--id", "kept").status == 0
        pid = cli.server_pid()
        service.process.kill()
        with cli.serving() as next_one:
            assert_ends(pid)
            assert len(cli.call("events", "flake", "kept").lines) == 1
            assert cli.call(*CREATE, "--id", "kept").status == 1
            assert next_one.stopped().status == 0


async def _delete_commands(client: Client, domain: str, folder: Path) -> None:
    await client.api(f"STREAM.DELETE.{domain.upper()}_CMD")


async def test_a_worker_that_fails_ends_it_with_the_reason(
    external: CommandLine, client: Client, domain_name: str
) -> None:
    with external.serving() as service:
        await _delete_commands(client, domain_name, external.folder)
        ended = service.ended()

    assert (ended.status, ended.out) == (2, "")
    error = ended.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "_CMD does not exist" in error


STRAY: list[tuple[str, bytes, dict[str, str]]] = [
    ("flake.strange", b"{}", {"X-Event-ID": "none"}),
    ("flake.strange", b"", {}),
    ("teapot.x", b"\xff", {"Status": "503", "Nats-Subject": "nix.log.flake.x"}),
    ("flake.poison", b"[" * 20_000, {"X-Chain": "f" * 64, "X-Aggregate-Version": "1"}),
]


async def test_foreign_messages_in_the_log_are_reported_and_stop_nothing(
    external: CommandLine, client: Client, domain_name: str
) -> None:
    with external.serving() as service:
        for subject, payload, headers in STRAY:
            stray = f"{domain_name}.log.{subject}"
            await client.request(stray, payload, headers=headers or None)
        create = ("send", f"{domain_name}.cmd.flake.create", "--data")
        for name in ("strange", "poison"):
            flake = f'{{"path": "./{name}", "description": ""}}'
            sent = await asyncio.to_thread(external.call, *create, flake, "--id", name)
            assert sent.status == 0, sent.err
        listed = await asyncio.to_thread(
            external.call, "query", "flake", "list", "--json", "--wait", "6"
        )
        health = await asyncio.to_thread(external.call, "health", "--json")
        ended = await asyncio.to_thread(service.stopped)

    assert listed.status == 0, listed.err
    assert {json.loads(line)["path"] for line in listed.lines} == {"./strange", "./poison"}
    report = json.loads(health.out)
    assert (health.status, report["status"]) == (1, "degraded")
    log = report["details"]["streams"]["streams"][f"{domain_name.upper()}_LOG"]
    assert log["foreign"] == {"count": 4, "positions": [1, 2, 3, 4]}
    assert "4 foreign messages, last at position 4" in report["details"]["streams"]["problem"]
    assert ended.status == 0
    assert "foreign message at position 1" in ended.err

    with external.serving() as service:  # a new process reports it, too
        deadline = time.monotonic() + BOUND
        health = await asyncio.to_thread(external.call, "health")
        while health.status != 1 and time.monotonic() < deadline:
            health = await asyncio.to_thread(external.call, "health")
        assert "4 foreign messages, last at position 4" in " ".join(health.out.split())
        await asyncio.to_thread(service.stopped)


def test_a_failed_projection_is_reported_and_the_service_continues(cli: CommandLine) -> None:
    with cli.serving() as service:
        with closing(sqlite3.connect(cli.folder / "var" / "read_model.sqlite")) as database:
            database.execute("ALTER TABLE flake RENAME TO gone")
            database.commit()
        assert cli.call(*CREATE, "--id", "poison").status == 0
        deadline = time.monotonic() + BOUND
        while (health := cli.call("health")).status != 2 and time.monotonic() < deadline:
            pass
        assert "projection flakes stopped before FlakeCreated" in " ".join(health.out.split())
        module = '{"name": "m", "content": ""}'
        assert cli.call("send", "nix.cmd.module.create", "--data", module).status == 0
        ended = service.stopped()

    assert "projection flakes stopped before FlakeCreated" in ended.err.splitlines()[0]
    assert ended.status == 2  # it stops cleanly, and reports the failure


def test_the_read_model_may_be_in_postgresql(cli: CommandLine, new_postgresql: str) -> None:
    cli.environ |= {"EVENTSTORE_DATABASE": new_postgresql}

    with cli.serving() as service:
        assert cli.call("nix", "import", samples()[0]).status == 0
        assert cli.call(*CREATE, "--id", "mine").status == 0
        assert cli.call("health").status == 0
        assert service.stopped().status == 0
    with cli.start("serve") as service:
        assert service.line().endswith(f", read model {new_postgresql}")
        assert cli.call(*CREATE[:-1], '{"path": "./y", "description": "y"}').status == 0
        deadline = time.monotonic() + BOUND
        while asyncio.run(count_flakes(new_postgresql)) < 3:
            assert time.monotonic() < deadline
        assert service.stopped().status == 0

    assert not (cli.folder / "var" / "read_model.sqlite").exists()
    assert "The read model in postgresql://" in cli.call("demo", samples()[0]).out


async def count_flakes(location: str) -> int:
    connection = await asyncpg.connect(location)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM flake"))
    finally:
        await connection.close()


def test_metrics_are_served_by_http_if_an_address_is_set(cli: CommandLine) -> None:
    config = cli.folder / "settings.toml"
    config.write_text('[operations]\nmetrics_address = "127.0.0.1:0"\n', encoding="utf-8")
    with cli.serving("--config", config) as service:
        assert cli.call(*CREATE, "--id", "counted").status == 0
        ended = service.stopped()
    assert re.search(r"metrics at http://127\.0\.0\.1:[0-9]+/metrics", ended.err)


def test_spans_leave_a_service_whose_settings_say_tracing_and_logs_are_json(
    tmp_path: Path,
) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        cli = CommandLine(
            tmp_path,
            EVENTSTORE_OPERATIONS_TRACING="true",
            EVENTSTORE_OPERATIONS_JSON_LOGS="true",
            EVENTSTORE_OPERATIONS_METRICS_ADDRESS="127.0.0.1:0",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        )
        with cli.serving(forked=False) as service:
            assert cli.call(*CREATE).status == 0
            ended = service.stopped()
        collector.shutdown()
        thread.join()

    assert {path for path, _ in received} == {"/v1/traces"}
    spans = b"".join(body for _, body in received)
    assert b"process CreateFlake" in spans
    assert b"cim-domain-nix" in spans
    logged = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    (metrics_at,) = [each for each in logged if each["message"].startswith("metrics at ")]
    assert metrics_at["level"] == "warning"
