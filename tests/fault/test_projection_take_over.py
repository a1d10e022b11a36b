"""Two services on one read model: the second stands by, and takes over when the first is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eventstore import EventStore, nix
from eventstore.application.read_models import projections_of
from eventstore.client.client import Client
from eventstore.server.embedded import EmbeddedServer
from projections import app
from tests.integration.command_line import BOUND, CommandLine, RunningProcess
from tests.processes import closings, freeze

NAMES = [each.name for each in projections_of(app)]


@pytest.fixture
def cli(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    """On the shared server, isolated from other tests by its own domain."""
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    return CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)


@contextmanager
def standing_by(cli: CommandLine, first: RunningProcess) -> Iterator[RunningProcess]:
    with cli.start("serve") as second:
        assert second.process.stderr is not None
        line = last_line(second)
        assert f" WARNING: standing by for process {first.process.pid} on " in line
        assert line.rstrip().endswith(f"owns {', '.join(NAMES)}")
        assert second.line().startswith("ready: ")
        yield second


def last_line(running: RunningProcess) -> str:
    """The next line of its standard error."""
    assert running.process.stderr is not None
    timer = threading.Timer(BOUND, running.process.kill)
    timer.start()
    try:
        return running.process.stderr.readline()
    finally:
        timer.cancel()


def create(cli: CommandLine, domain: str, name: str) -> None:
    module = f'{{"name": "{name}", "content": ""}}'
    ended = cli.call("send", f"{domain}.cmd.module.create", "--id", name, "--data", module)
    assert ended.status == 0, ended


def until_in_rows(cli: CommandLine, *names: str) -> float:
    """Seconds until the read model has exactly these modules."""
    began = time.monotonic()
    found: set[str] = set()
    while time.monotonic() < began + BOUND:
        with closing(sqlite3.connect(cli.folder / "var" / "read_model.sqlite")) as rows:
            found = {row[0] for row in rows.execute("SELECT id FROM module")}
        if found == set(names):
            return time.monotonic() - began
    raise AssertionError(f"{found} and not {set(names)}")


def test_the_second_takes_over_from_a_killed_one(cli: CommandLine, domain_name: str) -> None:
    with cli.serving() as first, standing_by(cli, first) as second:
        create(cli, domain_name, "before")
        until_in_rows(cli, "before")
        health = cli.call("health")
        assert (health.status, "lag" in health.err) == (0, False), health

        first.process.kill()
        first.process.wait(BOUND)
        create(cli, domain_name, "after")
        assert until_in_rows(cli, "before", "after") < 5
        assert "WARNING: took over flakes, inputs, packages" in last_line(second)
        assert second.stopped().status == 0


async def test_the_second_waits_while_the_first_is_frozen(
    cli: CommandLine, client: Client, domain_name: str
) -> None:
    codec = nix.domain(domain_name).codec
    lock = cli.folder / "var" / "read_model.sqlite.locks" / "projection-modules"

    async def append(name: str) -> None:
        async with EventStore(client, codec) as store:
            await store.append("module", name, nix.ModuleCreated(name=name, content=""))

    with cli.serving() as first, standing_by(cli, first) as second:
        freeze(first.process.pid)
        await append("meanwhile")
        with closings(lock) as until_refused:  # one that had the lock would keep its file open
            for _ in range(3):
                until_refused()
        until_in_rows(cli)
        os.kill(first.process.pid or 0, signal.SIGCONT)
        until_in_rows(cli, "meanwhile")
        assert first.stopped().status == 0
        assert "WARNING: took over " in last_line(second)
        await append("after")
        until_in_rows(cli, "meanwhile", "after")
        assert second.stopped().status == 0
