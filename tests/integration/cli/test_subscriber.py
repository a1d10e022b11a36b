"""`eventstore subscriber`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.integration.cli.operations import good, plain
from tests.integration.command_line import CommandLine

NAME = "stale-builds"


def shown(service: CommandLine) -> dict[str, Any]:
    (line,) = good(service.call("subscriber", "show", NAME, "--json"))
    found: dict[str, Any] = json.loads(line)
    return found


def update_flake(service: CommandLine, own: str) -> None:
    """Two events, of which the subscriber handles the second."""
    create = '{"path": "./x", "description": "x"}'
    add = '{"name": "nixpkgs", "url": "github:NixOS/nixpkgs"}'
    good(service.call("send", "nix.cmd.flake.create", "--id", own, "--data", create))
    good(service.call("send", "nix.cmd.flake.add_input", "--id", own, "--data", add))


async def _until_handled(service: CommandLine) -> None:
    """Wait until the consumer has nothing left."""
    async with plain(service) as connection:
        stream = connection.jetstream()
        async with asyncio.timeout(20):
            while True:
                info = await stream.consumer_info("NIX_EVENT", NAME)
                acked = info.ack_floor is not None and info.ack_floor.stream_seq
                if acked and not info.num_pending and not info.num_ack_pending:
                    return
                await asyncio.sleep(0.05)


def test_subscribers_are_listed_shown_and_reset(service: CommandLine) -> None:
    listed = good(service.call("subscriber", "list", "--json"))
    assert [json.loads(line)["name"] for line in listed] == [NAME]
    update_flake(service, "f1")
    asyncio.run(_until_handled(service))

    found = shown(service)
    assert (found["state"], found["lag"], found["parked"]) == ("running", 0, 0)
    assert found["position"] == 2
    table = good(service.call("subscriber", "list"))
    assert table[0].split() == ["subscriber", "state", "position", "lag", "parked"]
    assert table[1].split() == [NAME, "running", "2", "0", "-"]
    lines = good(service.call("subscriber", "show", NAME))
    assert lines[0] == f"{NAME}: running"
    assert "  nix.event.flake.input_added" in lines

    prompt = service.call("subscriber", "reset", NAME)
    assert prompt.status == 1
    assert "from position 2 to 0, delivers 1 event, 1 of them again?" in prompt.out
    (line,) = good(service.call("subscriber", "reset", NAME, "--after", "1", "--yes"))
    planned = f"{NAME} from position 2 to 1, delivers 1 event, 1 of them again"
    assert line == f"reset: {planned}"
    asyncio.run(_until_handled(service))
    (line,) = good(service.call("subscriber", "reset", NAME, "--new", "--yes", "--json"))
    assert json.loads(line) == {"name": NAME, "was": 2, "after": 2, "events": 0, "again": 0}
    update_flake(service, "f2")
    asyncio.run(_until_handled(service))
    assert shown(service)["position"] == 4


def test_the_health_of_a_service_names_its_subscribers(service: CommandLine) -> None:
    found = json.loads(good(service.call("health", "--json"))[0])
    assert found["details"]["subscribers"]["status"] == "healthy"
    assert NAME in found["details"]["subscribers"]["subscribers"]


def test_an_unknown_name_and_two_places_are_refused(service: CommandLine) -> None:
    unknown = service.call("subscriber", "show", "nobody")
    assert (unknown.status, unknown.out) == (2, "")
    assert "no subscriber nobody has run" in unknown.err
    both = service.call("subscriber", "reset", NAME, "--new", "--after", "1", "--yes")
    assert both.status == 2
    assert "not both" in both.err


async def _delete_consumer(service: CommandLine) -> None:
    async with plain(service) as connection:
        await connection.jetstream().delete_consumer("NIX_EVENT", NAME)


def test_a_consumer_that_was_deleted_is_created_again(service: CommandLine) -> None:
    update_flake(service, "f3")
    asyncio.run(_until_handled(service))
    before = shown(service)
    asyncio.run(_delete_consumer(service))

    words = ("subscriber", "reset", NAME, "--after", str(before["position"] - 2))
    (line,) = good(service.call(*words, "--yes"))

    assert line == (
        f"reset: {NAME}, whose consumer was deleted, begins after position "
        f"{before['position'] - 2}, delivers 1 event, also those of them that were handled before"
    )
    update_flake(service, "f4")
    asyncio.run(_until_handled(service))
    after = shown(service)
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed <= {"position", "start", "redelivered", "lag_seconds"}
    assert after["state"] == "running"
