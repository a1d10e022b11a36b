"""`eventstore recover`: shows what a log that went back no longer has, and does what is left."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.client.client import connect
from tests.conftest import started_server
from tests.integration.command_line import BOUND, CommandLine
from tests.integration.recovery.went_back import Depot

APP = ("--app", "examples.bank:app")


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    depot = Depot(tmp_path)
    with started_server(tmp_path / "nats") as server:
        depot.server = server
        yield depot


@pytest.fixture
def cli(depot: Depot, tmp_path: Path) -> CommandLine:
    rows = str(tmp_path / "rows.sqlite")
    environ = {"EVENTSTORE_DATABASE": rows, "EVENTSTORE_STREAMS_DUPLICATE_WINDOW_MS": "500"}
    return CommandLine(tmp_path, NATS_URL=depot.server.url, **environ)


def recover(cli: CommandLine, *words: str) -> str:
    done = cli.call(*APP, "recover", *words)
    assert done.status == 0, done.err
    return done.out


async def delete_log(depot: Depot) -> None:
    async with connect(depot.settings) as client:
        await client.api("STREAM.DELETE.BANK_LOG")


def test_a_halted_service_begins_by_itself_after_a_recovery(depot: Depot, cli: CommandLine) -> None:
    asyncio.run(depot.deposits(2))
    assert recover(cli) == (
        "nothing to recover: BANK_LOG has, up to position 2, all that was seen of it\n"
    )
    asyncio.run(delete_log(depot))
    with cli.start(*APP, "serve") as serving:
        halted = serving.line(of_errors=True)
        assert halted.startswith("halted: the log BANK_LOG is gone: the read model of projection ")
        health = json.loads(cli.call(*APP, "health", "--json").out)
        assert health["status"] == "unhealthy"
        assert health["details"]["log"]["since"] in health["details"]["log"]["problem"]

        shown = recover(cli)
        assert shown.startswith("the log BANK_LOG is gone\n  outcomes without events, removed: 2: ")
        assert "published events that are gone, which stay published: 2: Deposited " in shown
        assert "Nothing was changed." in shown
        refused = cli.call(*APP, "recover", "--yes")
        assert (refused.status, "begin with an empty log with --new-log" in refused.err) == (
            2,
            True,
        )

        done: dict[str, Any] = json.loads(recover(cli, "--yes", "--new-log", "--json"))["done"]
        assert (done["outcomes"], done["read_models"]) == (2, ["accounts", "audit"])
        assert serving.line().startswith("ready: bank ")
        sent = cli.call(
            *(*APP, "send", "bank.cmd.account.deposit", "--id", "a"),
            *("--data", '{"amount": 5}', "--timeout", str(BOUND), "--json"),
        )
        assert json.loads(sent.out)["position"] == 1
        assert serving.stopped(signal.SIGTERM).status == 0
    assert recover(cli).startswith("nothing to recover: BANK_LOG has, up to position 1,")


def test_a_service_in_two_processes_halts_whichever_of_them_notices(
    depot: Depot, cli: CommandLine
) -> None:
    async def put_back() -> None:
        await depot.deposits(1)
        await depot.keep()
        await depot.deposits(2)

    asyncio.run(put_back())
    with cli.start(*APP, "serve", "--processes", 2, forked=False) as serving:
        assert serving.line().startswith("ready: bank ")
        asyncio.run(depot.put_back())
        while not (line := serving.line(of_errors=True)).startswith("halted: "):
            assert line
        assert "went back" in line
        assert serving.stopped(signal.SIGTERM).status == 0
