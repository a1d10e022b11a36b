"""`eventstore send`: one command, its outcome for people and programs, and the exit status."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore.client.client import connect
from eventstore.commands.consumer import worker_consumer
from eventstore.config import load_settings
from eventstore.jetstream.topology import declare, declare_consumer, topology
from eventstore.nix import domain
from tests.integration.command_line import BOUND, CommandLine, ProcessResult

FIELDS = '{"path": "./x", "description": "x"}'
CREATE = ("send", "nix.cmd.flake.create", "--data", FIELDS)
ADD = ("send", "nix.cmd.flake.add_input", "--data", '{"name": "n", "url": "u"}')


def outcome(ended: ProcessResult) -> dict[str, Any]:
    assert ended.err == ""
    (line,) = ended.lines
    return dict(json.loads(line))


def new_aggregate() -> str:
    return f"f-{uuid.uuid4()}"


def test_success_is_status_0_with_the_position(service: CommandLine) -> None:
    ended = service.run(*CREATE, "--id", (own := new_aggregate()))

    assert (ended.status, ended.err) == (0, "")
    assert ended.lines[0] == "success: FlakeCreated"
    facts = dict(line.split(maxsplit=1) for line in ended.lines[1:])
    assert facts.keys() == {"command", "flake", "version", "position", "events"}
    assert (facts["flake"], facts["version"]) == (own, "1")
    assert max(map(len, ended.lines)) <= 80


def test_a_rejection_is_status_1(service: CommandLine) -> None:
    ended = service.call(*ADD, "--id", "unheard-of")

    assert (ended.status, ended.err) == (1, "")
    assert ended.lines[0].startswith("rejected: ")
    assert ended.lines[0].endswith("(not_found)")


def test_a_version_that_is_not_met_is_a_rejection(service: CommandLine) -> None:
    new = (*CREATE, "--id", new_aggregate(), "--expected", "0")
    assert service.call(*new).status == 0
    ended = service.call(*new)

    assert (ended.status, ended.err) == (1, "")
    assert "was expected at version 0, but is at 1" in ended.lines[0]
    assert ended.lines[0].endswith("(conflict)")


def test_an_error_is_status_2(service: CommandLine) -> None:
    ended = service.call("send", "nix.cmd.flake.create")

    assert (ended.status, ended.err) == (2, "")
    assert ended.lines[0] == (
        "error: payload of CreateFlake: Object missing required field `path` (invalid_payload)"
    )


def test_json_has_all_fields_of_the_outcome(service: CommandLine) -> None:
    command_id = str(uuid.uuid4())
    ended = service.call(
        *CREATE, "--json", "--id", (own := new_aggregate()), "--command-id", command_id
    )

    found = outcome(ended)
    (event_id,) = found.pop("event_ids")
    assert uuid.UUID(event_id).version == 5
    assert found.pop("position") > 0
    assert found == {
        "status": "success",
        "code": "ok",
        "message": "FlakeCreated",
        "command_id": command_id,
        "aggregate": "flake",
        "aggregate_id": own,
        "version": 1,
    }


@pytest.mark.parametrize("words", [CREATE, ADD], ids=["success", "rejected"])
def test_the_same_command_sent_again_has_the_same_outcome(
    service: CommandLine, words: tuple[str, ...]
) -> None:
    again = (*words, "--id", new_aggregate(), "--command-id", str(uuid.uuid4()), "--json")
    first, second = service.call(*again), service.call(*again)

    assert outcome(first)["status"] == ("success" if words is CREATE else "rejected")
    assert first == second


def test_a_new_aggregate_gets_an_id(service: CommandLine) -> None:
    found = outcome(service.call(*CREATE, "--json"))
    assert uuid.UUID(found["aggregate_id"])


def test_the_actor_is_recorded(service: CommandLine) -> None:
    own = new_aggregate()
    assert service.call(*CREATE, "--id", own, "--actor", "Zoë").status == 0

    (line,) = service.call("events", "flake", own, "--json").lines
    assert json.loads(line)["headers"]["X-Actor"] == "Zoë"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("nix.cmd.flake.create", "--data", "{"), "invalid_payload", "truncated"),
        (("nix.cmd.flake.create", "--data", "[1]"), "invalid_payload", "Expected `object`"),
        (("nix.cmd.flake.create", "--data", "\udcff"), "invalid_payload", "malformed"),
        (("nix.cmd.flake.create", "--data", '{"path": "x"}'), "invalid_payload", "description"),
        (
            ("nix.cmd.flake.create", "--data", '{"path": 1, "description": "x"}'),
            "invalid_payload",
            "$.path",
        ),
        (("nix.cmd.flake.destroy",), "unknown_type", "flake has no command 'destroy'; it has"),
        (("nix.cmd.cake.create",), "unknown_type", "unknown aggregate 'cake'; known are"),
        (("nix.cmd.flake",), "invalid_subject", "{domain}.{kind}.{aggregate}.{action}"),
        (("nix.event.flake.created",), "invalid_subject", "does not begin with nix.cmd."),
        (("shop.cmd.flake.create",), "invalid_subject", "does not begin with nix.cmd."),
        (("nix.cmd.Flake.create",), "invalid_subject", "'Flake'"),
        (("nix.cmd.flake.create", "--data", FIELDS, "--id", "a.b"), "invalid_id", "'a.b'"),
        (("nix.cmd.flake.create", "--data", FIELDS, "--id", ""), "invalid_id", "''"),
        (("nix.cmd.flake.create", "--data", FIELDS, "--id", "\udcff"), "invalid_id", "udcff"),
        (("nix.cmd.flake.create", "--config", "\udcff"), "configuration", "cannot be read"),
        (("nix.cmd.flake.create", "--command-id", "\udcff"), "invalid_id", "udcff"),
        (ADD[1:], "invalid_header", "AddFlakeInput needs"),
        (("nix.cmd.flake.create", "--command-id", "1"), "invalid_id", "'1' is not a UUID"),
        (
            ("nix.cmd.flake.create", "--data", FIELDS, "--actor", "a\nb"),
            "invalid_header",
            "X-Actor",
        ),
        (
            (
                "nix.cmd.flake.create",
                "--data",
                json.dumps({"path": "x" * 1_100_000, "description": ""}),
            ),
            "event_too_large",
            "CreateFlake",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_bad_input_is_a_clear_error_and_nothing_is_stored(
    service: CommandLine, words: tuple[str, ...], code: str, problem: str
) -> None:
    before = outcome(service.call(*CREATE, "--json"))
    ended = service.call("send", *words, "--json")

    found = outcome(ended)
    assert (ended.status, found["status"], found["code"]) == (2, "error", code)
    assert problem in found["message"]
    assert ("--command-id" in words) or uuid.UUID(found["command_id"])
    after = outcome(service.call(*CREATE, "--json"))
    assert after["status"] == "success", "the worker goes on"
    assert after["position"] == before["position"] + 1


def test_control_sequences_in_an_outcome_are_escaped(service: CommandLine) -> None:
    fields = json.dumps({"name": "\x1b[31m[/b]", "url": "\u009b31m"})
    own = new_aggregate()
    assert service.call(*CREATE, "--id", own).status == 0
    assert (
        service.call("send", "nix.cmd.flake.add_input", "--id", own, "--data", fields).status == 0
    )
    fields = json.dumps({"name": "\x1b[31m[/b]", "url": "other"})
    ended = service.call("send", "nix.cmd.flake.add_input", "--id", own, "--data", fields)

    assert ended.status == 1
    assert r"31m[/b]" in ended.out
    assert r"\x9b31m" in ended.out
    assert all(char.isprintable() or char == "\n" for char in ended.out)
    (_, line) = service.call("events", "flake", own).lines
    assert line.isprintable()


def test_a_closed_pipe_does_not_change_the_status(service: CommandLine) -> None:
    with service.start(*CREATE, "--id", (own := new_aggregate())) as running:
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.wait(BOUND) == 0
    with service.start(*CREATE, "--json", "--id", own, stderr=subprocess.STDOUT) as running:
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.wait(BOUND) == 1


def test_without_any_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    cli = CommandLine(tmp_path, NATS_URL=f"nats://127.0.0.1:{port}")
    ended = cli.call(*CREATE, "--json")

    found = outcome(ended)
    assert (ended.status, found["code"]) == (2, "connect_failed")
    assert " serve`" in found["message"]
    assert "--nats-url" in found["message"]


def test_on_an_unused_server_it_says_how_to_start_a_service(
    lonely: CommandLine, domain_name: str
) -> None:
    ended = lonely.call("send", f"{domain_name}.cmd.flake.create", "--data", FIELDS, "--json")

    found = outcome(ended)
    assert (ended.status, found["code"]) == (2, "no_responders")
    assert " serve`" in found["message"]


def test_without_a_running_service_it_times_out_and_the_command_stays(
    lonely: CommandLine, domain_name: str
) -> None:
    settings = load_settings(
        lonely.folder / "own.toml", environ={"NATS_URL": lonely.environ["NATS_URL"]}
    )
    codec = domain(domain_name).codec

    async def prepare() -> None:
        async with connect(settings) as client:
            await declare(client, topology(codec.subjects, settings.streams))
            await declare_consumer(client, worker_consumer(codec))

    asyncio.run(prepare())
    words = ("send", f"{domain_name}.cmd.flake.create", "--data", FIELDS, "--json")
    command_id = str(uuid.uuid4())
    began = time.monotonic()
    ended = lonely.call(*words, "--command-id", command_id, "--timeout", "0.3")
    took = time.monotonic() - began

    found = outcome(ended)
    assert (ended.status, found["code"], found["command_id"]) == (2, "timeout", command_id)
    assert "has no outcome after 0.3 s; is a command worker running?" in found["message"]
    assert took < 9  # by default it waits for 10 seconds

    with lonely.serving() as running:
        assert outcome(lonely.call(*words, "--command-id", command_id))["status"] == "success"
        assert running.stopped().status == 0


def test_a_silent_server_is_a_timeout(tmp_path: Path) -> None:
    (tmp_path / "timeouts.toml").write_text("[nats.retry]\nconnect_timeout_ms = 3_600_000\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        cli = CommandLine(tmp_path, NATS_URL=url, EVENTSTORE_CONFIG="timeouts.toml")
        ended = cli.call(*CREATE, "--timeout", "0.3")

    assert ended.status == 2
    assert "no answer in time" in ended.out


@pytest.mark.parametrize(
    "words",
    [
        ("send",),
        ("send", "nix.cmd.flake.create", "--timeout", "0"),
        ("send", "nix.cmd.flake.create", "--timeout", "soon"),
        ("send", "nix.cmd.flake.create", "--bogus"),
        ("serve", "now"),
        ("events", "--limit", "0"),
        ("nix", "import"),
        ("nix", "export"),
        ("cook",),
    ],
    ids=" ".join,
)
def test_misuse_is_status_2_and_says_how_it_is_used(tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = CommandLine(tmp_path).call(*words)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("Usage: ")
    assert "\nError: " in ended.err
    assert CommandLine(tmp_path).files() == []
