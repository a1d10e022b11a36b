"""`eventstore audit` with events that this code cannot read."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient
from eventstore.config import load_settings
from eventstore.jetstream.publish import publish_acked
from eventstore.messages.chain import chain_value
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import Header
from eventstore.nix import CreateFlake, CreateModule
from eventstore.store.store import EventStore
from tests.integration.command_line import BOUND, CommandLine

SUBJECT = "nix.log.module.m"
NO_JSON = b'{"content": \xff'


class Odd(NamedTuple):
    """The log of module m: one good event, and two that cannot be read."""

    cli: CommandLine
    unknown: int
    end: int


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    cli = CommandLine(tmp_path_factory.mktemp("unread"))
    with cli.serving() as running:
        odd = Odd(cli, *asyncio.run(happen(str(cli.server_url))))
        deadline = time.monotonic() + BOUND
        while "FlakeCreated" not in cli.call("audit", "search", "--aggregate", "flake").out:
            assert time.monotonic() < deadline
        yield odd
        while "projections unhealthy" not in " ".join(cli.call("health").out.split()):
            assert time.monotonic() < deadline  # they try several times
        ended = running.stopped()
        assert (ended.status, "ModulePainted" in ended.err) == (2, True)


async def happen(url: str) -> tuple[int, int]:
    domain = nix.domain()
    settings = load_settings(nats_url=url, environ={})
    async with (
        connect(settings) as client,
        CommandClient(client, domain.codec) as commands,
        EventStore(client, domain.codec) as store,
    ):
        await commands.execute(CreateModule(name="m", content="0"), "m")
        created = await anext(store.read("module", "m"))
        painted = await put_after(client, created.headers, "ModulePainted", b"{}")
        await put_after(client, painted, "ModuleUpdated", NO_JSON)
        last = await commands.execute(CreateFlake(path="./f", description=""), "f")
    return created.position + 1, last.position


async def put_after(
    client: Client, before: Mapping[str, str], type_name: str, payload: bytes
) -> dict[str, str]:
    """Record the next event of module m as a newer version would; its headers."""
    headers = {name: value for name, value in before.items() if not name.startswith("Nats-")}
    headers[Header.EVENT_ID] = new_id()
    headers[Header.EVENT_TYPE] = type_name
    headers[Header.AGGREGATE_VERSION] = str(int(before[Header.AGGREGATE_VERSION]) + 1)
    headers[Header.CHAIN] = chain_value(before[Header.CHAIN], SUBJECT, headers, payload)
    await publish_acked(client, SUBJECT, payload, headers)
    return headers


def test_unreadable_events_are_found_by_their_type(odd: Odd) -> None:
    found = odd.cli.call("audit", "search", "--aggregate", "module", "--kind", "event", "--oldest")
    assert (found.status, found.err) == (0, "")
    assert [line.split()[3:] for line in found.lines[1:]] == [
        ["ModuleCreated", "module", "m", "v1"],
        ["ModulePainted", "module", "m", "v2"],
        ["ModuleUpdated", "module", "m", "v3"],
    ]
    painted = found.lines[2].split()[2]
    result = odd.cli.call("audit", "trace", painted, "--no-verify")
    assert result.status == 0
    assert "ModulePainted module m v2" in result.out


def test_a_history_ends_at_an_unreadable_event_with_the_reason(odd: Odd) -> None:
    ended = odd.cli.call("audit", "history", "module", "m")
    assert (ended.status, ended.err) == (1, "")
    begin = ended.lines.index(f"v2  ModulePainted at position {odd.unknown}")
    assert ended.lines[begin + 1 : begin + 3] == [
        "    cannot be folded: event type 'ModulePainted' is not registered in nix",
        "    the state from here on is unknown",
    ]
    assert "state at version 1" in ended.lines
    assert ended.lines[-1] == "chain verified: 3 events"
    assert odd.cli.call("audit", "history", "module", "m", "--at", 1).status == 0
    whole = odd.cli.call("audit", "history", "module", "m", "--json")
    assert json.loads(whole.out)["stopped"]["position"] == odd.unknown


def test_an_export_has_payloads_that_are_not_json(odd: Odd) -> None:
    words = ("audit", "export", "--aggregate", "module", "--kind", "event", "--payload")
    lines = odd.cli.call(*words).lines
    assert [json.loads(line)["payload"] for line in lines][1:] == [{}, '{"content": \\xff']
    rows = list(csv.DictReader(io.StringIO(odd.cli.call(*words, "--format", "csv").out)))
    assert [row["payload"] for row in rows][1:] == ["{}", '{"content": \\xff']


def test_the_read_models_have_stopped_and_the_index_has_not(odd: Odd) -> None:
    deadline = time.monotonic() + BOUND
    while (shown := odd.cli.call("projection", "show", "modules")).out.count("failed") == 0:
        assert time.monotonic() < deadline, shown
    assert "before ModulePainted" in shown.out
    index = odd.cli.call("projection", "show", "audit")
    assert f"{odd.end}" in index.out
    assert "StoredEvent" in index.out
