"""`eventstore serve --processes 2`: one service in two processes, which start and end together.

The second process is the first one's program once more: a fork of the tests' own has none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import nix
from eventstore.client.client import connect
from eventstore.console.actions import Target, carry_out
from eventstore.console.source import Source
from eventstore.projections.control import ListProjections
from eventstore.projections.status import ProjectionStatus
from eventstore.server.embedded import EmbeddedServer
from tests.connection import settings_for
from tests.integration.cli.operations import CREATE, plain
from tests.integration.cli.test_serve import assert_ends
from tests.integration.command_line import BOUND, CommandLine
from tests.postgresql_server import PostgresqlServer

STOPPED = "stopping: finishing the work in progress\nstopped\n"


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def external(cli: CommandLine, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    """With a configuration that keeps the test apart from others on the shared server."""
    (cli.folder / "own.toml").write_text(
        f'[nats]\nsubject_prefix = "{domain_name}"\n[operations]\nprocesses = 2\n'
    )
    cli.environ |= {"EVENTSTORE_CONFIG": "own.toml", "NATS_URL": nats_server.url}
    return cli


def checks(cli: CommandLine) -> dict[str, Any]:
    """The details of the health report."""
    details: dict[str, Any] = json.loads(cli.call("health", "--json").out)["details"]
    return details


def read_side(cli: CommandLine) -> int:
    """The pid of the second process."""
    return int(checks(cli)["read_side"]["pid"])


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline


async def metrics(cli: CommandLine) -> str:
    async with plain(cli) as connection:
        return (await connection.request("metrics.nix", timeout=BOUND)).data.decode()


async def micro(cli: CommandLine, verb: str) -> dict[str, Any]:
    """The endpoint of a query in the NATS micro protocol."""
    async with plain(cli) as connection:
        reply = await connection.request(f"$SRV.{verb}", timeout=BOUND)
    endpoints: list[dict[str, Any]] = json.loads(reply.data)["endpoints"]
    (found,) = (each for each in endpoints if each["subject"] == "nix.query.flake.list")
    return found


def test_it_is_one_service_with_one_ready_line_one_health_and_one_stop(cli: CommandLine) -> None:
    with cli.start("serve", "--processes", 2, forked=False) as service:
        ready = service.line()
        sent = json.loads(cli.call(*CREATE, "--json").out)
        found = cli.call("query", "flake", "list", "--wait", sent["position"])
        details = checks(cli)
        (announced,) = map(json.loads, cli.call("discover", "--json").lines)
        rendered = asyncio.run(metrics(cli))
        until(lambda: asyncio.run(micro(cli, "STATS"))["num_requests"] == 1)
        endpoint = asyncio.run(micro(cli, "INFO"))
        assert cli.call("config", "set", "projections.paused", "flakes").status == 0
        until(lambda: checks(cli)["projections"]["projections"]["flakes"]["state"] == "paused")
        pid = details["read_side"]["pid"]
        assert os.getpgid(pid) == pid, "no Ctrl-C reaches it"
        ended = service.stopped()

    assert ready.startswith("ready: cim-domain-nix ")
    assert ready.endswith(", read model var/read_model.sqlite")
    assert "1 item" in found.out
    assert {"streams", "commands", "read_side", "projections", "feed"} <= details.keys()
    assert "nix.query.flake.list" in {each["subject"] for each in announced["endpoints"]}
    assert endpoint["queue_group"] == "cim-domain-nix"
    assert endpoint["metadata"]["request_type"] == "ListFlakes"
    assert "FlakeView" in endpoint["metadata"]["response_schema"]
    assert 'eventstore_commands_total{outcome="success",type="CreateFlake"} 1.0' in rendered
    assert 'eventstore_projection_position{process="read_side",projection="flakes"}' in rendered
    assert rendered.count("# TYPE eventstore_projection_position") == 1
    assert ended == (0, "", STOPPED)
    assert cli.server_url is None
    assert_ends(pid)


def test_nothing_is_left_if_it_is_killed(cli: CommandLine) -> None:
    with cli.serving("--processes", 2, forked=False) as service:
        others = (read_side(cli), cli.server_pid())
        service.stopped(signal.SIGKILL)
        for pid in others:
            assert_ends(pid)


def test_the_second_ctrl_c_ends_both_at_once(cli: CommandLine) -> None:
    with cli.serving("--processes", 2, forked=False) as service:
        assert service.process.stderr is not None
        others = (read_side(cli), cli.server_pid())
        os.kill(others[1], signal.SIGSTOP)  # so that an orderly shutdown would take long
        service.send(signal.SIGINT)
        assert "stopping" in service.process.stderr.readline()
        ended = service.stopped(signal.SIGINT, seconds=9)
        os.kill(others[1], signal.SIGCONT)

    assert (ended.status, ended.err) == (-signal.SIGINT, "")
    for pid in others:
        assert_ends(pid)


def test_a_crash_of_the_read_side_is_reported_and_it_is_started_again(
    external: CommandLine,
) -> None:
    with external.serving(forked=False) as service:
        before = read_side(external)
        os.kill(before, signal.SIGKILL)
        assert_ends(before)
        until(lambda: checks(external)["read_side"]["pid"] != before)
        broken = checks(external)["read_side"]
        until(lambda: checks(external)["read_side"]["status"] == "healthy")
        assert checks(external)["read_side"]["restarts"] == 1
        assert external.call("query", "flake", "list").status == 0
        ended = service.stopped()

    assert broken["status"] == "unhealthy"
    assert "the process of the read side ended with SIGKILL" in broken["problem"]
    assert ended.status == 0
    assert "the process of the read side ended with SIGKILL; retrying" in ended.err
    assert "the process of the read side is ready again" in ended.err


def test_an_error_of_the_read_side_is_one_clear_line(external: CommandLine) -> None:
    (external.folder / "text").write_text("no database, but long enough to be read as a head")
    ended = external.run("serve", "--database", "text")

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("error: ")
    assert "file is not a database" in ended.err


def test_the_read_model_may_be_in_postgresql(
    external: CommandLine, postgresql_server: PostgresqlServer, domain_name: str
) -> None:
    location = asyncio.run(postgresql_server.create())
    subject = CREATE[1].replace("nix", domain_name, 1)
    with external.start("serve", "--database", location, forked=False) as service:
        assert service.line().endswith(f", read model {location}")
        sent = json.loads(external.call("send", subject, *CREATE[2:], "--json").out)
        found = external.call("query", "flake", "list", "--wait", sent["position"])
        assert "1 item" in found.out
        assert service.stopped() == (0, "", STOPPED)


def test_projections_are_controlled_from_outside_of_both_processes(cli: CommandLine) -> None:
    with cli.serving("--processes", 2, forked=False) as service:
        position = json.loads(cli.call(*CREATE, "--json").out)["position"]
        cli.call("query", "flake", "list", "--wait", position)
        asyncio.run(controlled(cli))
        while "flakes: rebuilt to position" not in (line := service.line(of_errors=True)):
            assert line
        assert cli.call("query", "flake", "list").out.count("./x") == 1
        recorded = json.loads(cli.call("audit", "actions", "--json").out)["items"]
        assert service.stopped()[0] == 0

    done = [(each["action"], each["target"], each["actor"], each["status"]) for each in recorded]
    assert done == [
        (f"projection-{verb}", "flakes", "ann", "done") for verb in ("rebuild", "resume", "pause")
    ]


async def controlled(cli: CommandLine) -> None:
    """Pause, resume and rebuild a projection, as the console does."""
    assert cli.server_url is not None
    async with asyncio.timeout(BOUND), connect(settings_for(cli.server_url, "nix")) as client:
        source = Source(client, nix.domain())

        async def status() -> ProjectionStatus:
            found = (await source.queries.ask(ListProjections())).data.projections
            return next(each for each in found if each.name == "flakes")

        async def until(is_so: Callable[[ProjectionStatus], bool]) -> None:
            while not is_so(await status()):  # noqa: ASYNC110  # it tells only when asked
                await asyncio.sleep(0.02)

        async def act(action: str) -> None:
            await carry_out(source, action, Target("flakes", 0, "ann"))

        await act("projection-pause")
        await until(lambda each: each.state == "paused")
        await act("projection-resume")
        await until(lambda each: each.state == "live")
        await act("projection-rebuild")
