"""`eventstore config`, and that a running service applies what is set."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from eventstore.client.client import connect
from eventstore.config import Settings
from eventstore.jetstream.publish import publish_acked
from eventstore.server.embedded import EmbeddedServer
from tests.integration.cli.operations import CREATE, good, new_aggregate, plain
from tests.integration.command_line import CommandLine


def test_the_configuration_is_set_shown_and_unset(service: CommandLine) -> None:
    assert good(service.call("config", "get", "log_level")) == ["log_level = (not set)"]
    assert good(service.call("config", "set", "log_level", "info")) == ["log_level = info"]
    good(service.call("config", "set", "commands.queue_limit", "5000"))
    assert json.loads(service.call("config", "get", "--json").out) == {
        "log_level": "info",
        "projections.paused": None,
        "commands.queue_limit": 5000,
    }
    assert service.call("config", "get", "log_level", "--json").out == '"info"\n'
    lines = good(service.call("config", "get"))
    assert lines[0].startswith("log_level = info  (")
    for key in ("log_level", "commands.queue_limit"):
        assert good(service.call("config", "unset", key)) == [f"{key} is not set"]
    assert good(service.call("config", "get", "log_level")) == ["log_level = (not set)"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("get", "loglevel"), "did you mean log_level"),
        (("set", "log_level", "loud"), "one of debug"),
        (("set", "commands.queue_limit", "0"), "from 1"),
        (("unset", "colour"), "colour"),
        (("set", "projections.paused", "flaks"), "did you mean flakes? there are flakes"),
        (("set", "projections.paused", '["flakes", "nope"]'), "there is no projection 'nope'"),
    ],
)
def test_an_invalid_configuration_is_an_error_with_the_reason(
    service: CommandLine, words: tuple[str, ...], named: str
) -> None:
    ended = service.call("config", *words)
    assert (ended.status, ended.out) == (2, "")
    assert named in ended.err


def test_a_running_service_applies_a_queue_limit(service: CommandLine) -> None:
    async def limit() -> int:
        async with plain(service) as connection:
            info = await connection.jetstream().stream_info("NIX_CMD")
            return int(info.config.max_msgs or 0)

    async def becomes(wanted: int) -> None:
        async with asyncio.timeout(20):
            while await limit() != wanted:  # noqa: ASYNC110  # the server tells only when asked
                await asyncio.sleep(0.01)

    assert asyncio.run(limit()) == 1_000_000
    good(service.call("config", "set", "commands.queue_limit", "77"))
    asyncio.run(becomes(77))
    good(service.call("config", "unset", "commands.queue_limit"))
    asyncio.run(becomes(1_000_000))


def test_a_running_service_pauses_a_projection(service: CommandLine) -> None:
    good(service.call("config", "set", "projections.paused", "flakes"))

    async def state(wanted: str) -> None:
        async with plain(service) as connection, asyncio.timeout(20):
            while True:
                answer = await connection.request("health.nix", timeout=10)
                report = json.loads(answer.data)
                found = report["details"]["projections"]["projections"]["flakes"]["state"]
                if found == wanted:
                    break

    asyncio.run(state("paused"))
    good(service.call("config", "unset", "projections.paused"))
    good(service.call(*CREATE, "--id", new_aggregate()))
    asyncio.run(state("live"))


async def fill(settings: Settings, subject: str) -> None:
    """Put a command into a queue that has room for one."""
    async with connect(settings) as client:
        await publish_acked(client, subject, b"{}")


def test_a_full_queue_is_an_outcome_with_an_error(
    tmp_path: Path, settings: Settings, nats_server: EmbeddedServer, domain_name: str
) -> None:
    (tmp_path / "own.toml").write_text(
        f'[nats]\nsubject_prefix = "{domain_name}"\n[streams]\nqueue_limit = 1\n'
    )
    cli = CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)
    with cli.serving() as running:
        assert running.stopped().status == 0
    subject = f"{domain_name}.cmd.flake.create"
    fields = '{"path": "./x", "description": "x"}'
    asyncio.run(fill(settings, subject))
    refused = cli.call("send", subject, "--data", fields, "--json")
    assert refused.status == 2
    found = json.loads(refused.out)
    assert (found["status"], found["code"]) == ("error", "queue_full")
    assert "send it again later" in found["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("config", "get"),
        ("config", "set", "log_level", "info"),
    ],
    ids=" ".join,
)
def test_without_a_service_the_error_says_what_to_do(
    lonely: CommandLine, words: tuple[str, ...]
) -> None:
    ended = lonely.call(*words)
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert "serve" in ended.err


def test_what_is_set_and_unset_is_printed_as_json(service: CommandLine) -> None:
    ended = service.call("config", "set", "projections.paused", "modules, audit", "--json")
    assert json.loads(ended.out) == {"projections.paused": ["modules", "audit"]}
    ended = service.call("config", "unset", "projections.paused", "--json")
    assert json.loads(ended.out) == {"projections.paused": None}
