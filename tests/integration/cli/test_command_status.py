"""`eventstore command status`."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from tests.integration.cli.operations import CREATE, good, new_aggregate, park, plain
from tests.integration.command_line import CommandLine


def test_the_status_of_a_command_is_the_exit_status(service: CommandLine) -> None:
    own, aggregate = str(uuid.uuid4()), new_aggregate()
    good(service.call(*CREATE, "--id", aggregate, "--command-id", own))
    again = str(uuid.uuid4())
    assert service.call(*CREATE, "--id", aggregate, "--command-id", again).status == 1
    broken = park(service, new_aggregate())
    unknown = str(uuid.uuid4())

    for command, status, text in (
        (own, 0, "success: FlakeCreated"),
        (again, 1, "rejected: "),
        (broken, 2, "error: "),
        (unknown, 3, "unknown: "),
    ):
        ended = service.call("command", "status", command)
        assert (ended.status, ended.err) == (status, "")
        assert ended.lines[0].startswith(text)
        ended = service.call("command", "status", command, "--json")
        assert ended.status == status
        found = json.loads(ended.out)
        assert (found["command_id"], text.partition(":")[0]) == (command, found["status"])


def test_an_invalid_id_is_an_error(service: CommandLine) -> None:
    ended = service.call("command", "status", "seventeen")
    assert (ended.status, ended.out) == (2, "")
    assert "seventeen" in ended.err


def test_the_status_can_be_queried_from_the_service(service: CommandLine) -> None:
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
