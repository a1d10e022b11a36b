"""`eventstore command`, `parked` and `config`: what operates a domain while its service runs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client as PlainClient

from eventstore.server.embedded import EmbeddedServer
from tests.integration.command_line import CommandLine, Ended

CREATE = ("send", "nix.cmd.flake.create", "--data", '{"path": "./x", "description": "x"}')


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A folder where a service runs, on its embedded server."""
    cli = CommandLine(tmp_path_factory.mktemp("service"))
    with cli.serving() as running:
        yield cli
        assert running.stopped().status == 0


@pytest.fixture
def lonely(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    """A folder where no service runs, and a server on which none ever has."""
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    return CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)


@asynccontextmanager
async def plain(service: CommandLine) -> AsyncIterator[PlainClient]:
    assert service.server_url is not None
    connection = await nats.connect(service.server_url)
    try:
        yield connection
    finally:
        await connection.close()


def good(ended: Ended) -> list[str]:
    assert (ended.status, ended.err) == (0, ""), ended
    return ended.lines


def park(service: CommandLine, aggregate_id: str, payload: bytes = b"{") -> str:
    """Send what nobody can read; its command's id."""

    async def send() -> str:
        own = str(uuid.uuid4())
        async with plain(service) as connection:
            inbox = connection.new_inbox()
            answers = await connection.subscribe(inbox)
            headers = {"X-Event-ID": own, "X-Aggregate-ID": aggregate_id, "X-Reply-To": inbox}
            await connection.jetstream().publish("nix.cmd.flake.create", payload, headers=headers)
            answer = await answers.next_msg(timeout=20)
        assert json.loads(answer.data)["status"] == "error"
        return own

    return asyncio.run(send())


def listed(service: CommandLine, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in good(service.call("parked", "list", *words, "--json"))]


def new_aggregate() -> str:
    return f"f-{uuid.uuid4()}"


def test_the_status_of_a_command_is_the_exit_status(service: CommandLine) -> None:
    own, aggregate = str(uuid.uuid4()), new_aggregate()
    good(service.call(*CREATE, "--id", aggregate, "--command-id", own))
    again = str(uuid.uuid4())
    assert service.call(*CREATE, "--id", aggregate, "--command-id", again).status == 1
    broken = park(service, new_aggregate())
    unknown = str(uuid.uuid4())

    for command, status, said in (
        (own, 0, "success: FlakeCreated"),
        (again, 1, "rejected: "),
        (broken, 2, "error: "),
        (unknown, 3, "unknown: "),
    ):
        ended = service.call("command", "status", command)
        assert (ended.status, ended.err) == (status, "")
        assert ended.lines[0].startswith(said)
        ended = service.call("command", "status", command, "--json")
        assert ended.status == status
        found = json.loads(ended.out)
        assert (found["command_id"], said.partition(":")[0]) == (command, found["status"])


def test_what_is_no_id_is_an_error(service: CommandLine) -> None:
    ended = service.call("command", "status", "seventeen")
    assert (ended.status, ended.out) == (2, "")
    assert "seventeen" in ended.err


def test_what_is_parked_is_listed_and_shown(service: CommandLine) -> None:
    own = new_aggregate()
    none = service.call("parked", "list", "flake", own)
    assert none == (0, "", "nothing is parked\n")
    command = park(service, own)

    (line,) = good(service.call("parked", "list", "flake", own))
    assert own in line
    assert "invalid_payload" in line
    (found,) = listed(service, "flake", own)
    assert (found["command_id"], found["data"], found["delivered"]) == (command, "{", 1)
    assert found["headers"]["X-Aggregate-ID"] == own

    sequence = str(found["parked"])
    assert line.split()[0] == sequence
    shown = "\n".join(good(service.call("parked", "show", sequence)))
    for part in (command, own, "nix.cmd.flake.create", "NIX_CMD", "X-Aggregate-ID", "1 bytes"):
        assert part in shown
    assert json.loads(service.call("parked", "show", sequence, "--json").out) == found
    assert listed(service, "flake", own, "--after", sequence) == []


def test_bytes_that_are_no_text_are_shown_all_the_same(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own, b"\xff\x1b[31m")
    (found,) = listed(service, "flake", own)
    assert "data" not in found
    shown = good(service.call("parked", "show", str(found["parked"])))
    assert shown[-1].strip() == r"b'\xff\x1b[31m'"


def test_a_retry_puts_it_back_and_keeps_the_order(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own)
    second = park(service, own)
    first_at, second_at = (str(each["parked"]) for each in listed(service, "flake", own))

    refused = service.call("parked", "retry", second_at)
    assert (refused.status, refused.out) == (2, "")
    assert f"{first_at}, of the same aggregate" in refused.err
    (said,) = good(service.call("parked", "retry", second_at, "--out-of-order"))
    assert said == f"put back: {second} on nix.cmd.flake.create"


def test_all_can_be_retried(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own)
    park(service, own)
    ended = service.call("parked", "retry", "--all", "--timeout", "20")
    assert (ended.status, ended.err) == (1, "")
    assert "put back" in ended.lines[0]
    assert any("ended in an error again" in line for line in ended.lines[1:])


@pytest.mark.parametrize("words", [(), ("3", "--all")])
def test_a_retry_is_of_one_or_of_all(service: CommandLine, words: tuple[str, ...]) -> None:
    ended = service.call("parked", "retry", *words)
    assert ended.status == 2
    assert "--all" in ended.err


def test_what_is_discarded_is_gone_and_that_is_asked_first(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own)
    (found,) = listed(service, "flake", own)
    sequence = str(found["parked"])

    asked = service.run("parked", "discard", sequence)
    assert asked.status == 1
    assert "discard it for good?" in asked.out
    assert listed(service, "flake", own) == [found]
    assert good(service.call("parked", "discard", sequence, "--yes")) == [f"discarded: {sequence}"]
    assert listed(service, "flake", own) == []
    for words in (("show",), ("retry",), ("discard", "--yes")):
        ended = service.call("parked", *words, sequence)
        assert (ended.status, ended.out) == (2, "")
        assert "nothing is parked there" in ended.err


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
    ],
)
def test_what_cannot_be_configured_is_an_error_that_says_why(
    service: CommandLine, words: tuple[str, ...], named: str
) -> None:
    ended = service.call("config", *words)
    assert (ended.status, ended.out) == (2, "")
    assert named in ended.err


def test_a_running_service_takes_up_a_queue_limit(service: CommandLine) -> None:
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


def test_the_status_can_be_asked_of_the_service(service: CommandLine) -> None:
    own = str(uuid.uuid4())
    good(service.call(*CREATE, "--id", new_aggregate(), "--command-id", own))

    async def ask() -> dict[str, Any]:
        question = json.dumps({"command_id": own}).encode()
        async with plain(service) as connection:
            answer = await connection.request("nix.query.command.get_status", question, timeout=10)
        found: dict[str, Any] = json.loads(answer.data)
        return found

    found = asyncio.run(ask())
    assert (found["status"], found["command_id"]) == ("success", own)


@pytest.mark.parametrize(
    "words",
    [
        ("command", "status", "9fb1e84e-f1a5-4925-b5e0-bcdfa2501e2e"),
        ("parked", "list"),
        ("parked", "show", "1"),
        ("parked", "retry", "--all"),
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


def test_a_queue_that_is_full_is_an_outcome_with_an_error(
    tmp_path: Path, nats_server: EmbeddedServer, domain_name: str
) -> None:
    (tmp_path / "own.toml").write_text(
        f'[nats]\nsubject_prefix = "{domain_name}"\n[streams]\nqueue_limit = 1\n'
    )
    cli = CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)
    with cli.serving() as running:
        assert running.stopped().status == 0
    subject = f"{domain_name}.cmd.flake.create"
    fields = '{"path": "./x", "description": "x"}'
    accepted = cli.call("send", subject, "--data", fields, "--timeout", "0.2", "--json")
    assert json.loads(accepted.out)["code"] == "timeout"
    refused = cli.call("send", subject, "--data", fields, "--json")
    assert refused.status == 2
    found = json.loads(refused.out)
    assert (found["status"], found["code"]) == ("error", "queue_full")
    assert "send it again later" in found["message"]
