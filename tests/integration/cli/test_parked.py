"""`eventstore parked`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.cli.operations import good, new_aggregate, park
from tests.integration.command_line import CommandLine


def listed(service: CommandLine, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in good(service.call("parked", "list", *words, "--json"))]


def test_parked_messages_are_listed_and_shown(service: CommandLine) -> None:
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


def test_binary_payloads_are_shown(service: CommandLine) -> None:
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
    (line,) = good(service.call("parked", "retry", second_at, "--out-of-order"))
    assert line == f"put back: {second} on nix.cmd.flake.create"


def test_all_can_be_retried(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own)
    park(service, own)
    ended = service.call("parked", "retry", "--all", "--timeout", "20")
    assert (ended.status, ended.err) == (1, "")
    assert "put back" in ended.lines[0]
    assert any("ended in an error again" in line for line in ended.lines[1:])


@pytest.mark.parametrize("words", [(), ("3", "--all")])
def test_a_retry_needs_a_number_or_all(service: CommandLine, words: tuple[str, ...]) -> None:
    ended = service.call("parked", "retry", *words)
    assert ended.status == 2
    assert "--all" in ended.err


def test_discarding_asks_first_and_deletes_the_message(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own)
    (found,) = listed(service, "flake", own)
    sequence = str(found["parked"])

    prompt = service.call("parked", "discard", sequence)
    assert prompt.status == 1
    assert "discard it permanently?" in prompt.out
    assert listed(service, "flake", own) == [found]
    assert good(service.call("parked", "discard", sequence, "--yes")) == [f"discarded: {sequence}"]
    assert listed(service, "flake", own) == []
    for words in (("show",), ("retry",), ("discard", "--yes")):
        ended = service.call("parked", *words, sequence)
        assert (ended.status, ended.out) == (2, "")
        assert "nothing is parked there" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("parked", "list"),
        ("parked", "show", "1"),
        ("parked", "retry", "--all"),
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


def test_changes_are_printed_as_json(service: CommandLine) -> None:
    own = new_aggregate()
    park(service, own)
    park(service, own)
    first, second = (str(each["parked"]) for each in listed(service, "flake", own))

    discarded = service.call("parked", "discard", first, "--yes", "--json")
    assert json.loads(discarded.out) == {"discarded": int(first)}
    retried = service.call("parked", "retry", second, "--json")
    assert json.loads(retried.out) == {"retried": 1, "left": {}}
