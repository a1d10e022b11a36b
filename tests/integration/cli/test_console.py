"""`eventstore console`, and `serve --console`."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from eventstore.server.embedded import EmbeddedServer
from tests.integration.command_line import AWAY, CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_a_service_serves_the_console_too(cli: CommandLine) -> None:
    with cli.start("serve", "--console", "127.0.0.1:0") as running:
        url = running.line().removeprefix("console: ")
        assert running.line().startswith("ready: ")
        page = httpx.get(f"{url}schemas")
        ended = running.stopped()

    assert (page.status_code, "CreateFlake" in page.text) == (200, True)
    assert ended.status == 0


def test_a_console_of_its_own_waits_for_its_server_and_ends_cleanly(cli: CommandLine) -> None:
    with cli.start("console", "--address", "127.0.0.1:0", "--nats-url", AWAY) as running:
        url = running.line().removeprefix("console: ")
        page = httpx.get(f"{url}stories")
        ended = running.stopped()

    assert (page.status_code, page.headers["refresh"]) == (503, "5")
    assert ended.status == 0
    assert "Traceback" not in ended.err


def test_it_is_not_open_to_the_network_without_logins(
    cli: CommandLine, nats_server: EmbeddedServer
) -> None:
    words = "console", "--address", "0.0.0.0:0", "--nats-url", nats_server.url
    ended = cli.call(*words)

    assert ended.status == 2
    assert "needs logins where others can reach it" in ended.err


def test_an_address_that_is_taken_is_named(cli: CommandLine, nats_server: EmbeddedServer) -> None:
    taken = nats_server.url.rpartition("@")[2]
    ended = cli.call("console", "--address", taken, "--nats-url", nats_server.url)

    assert ended.status == 2
    assert f"the console cannot listen on {taken}" in ended.err
