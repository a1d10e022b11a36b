"""`eventstore audit forget`: confirmation, the key, and what is reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore import nix
from eventstore.client.client import connect
from eventstore.config import StreamSettings
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.types import Event
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from projections import nix_projections
from tests.conftest import settings_for
from tests.integration.command_line import CommandLine
from tests.integration.customers import CustomerRegistered, shop

Read = Callable[[], list[Event]]


@pytest.fixture
def cli(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    return CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)


@pytest.fixture
def read(nats_server: EmbeddedServer, domain_name: str) -> Read:
    """Register ann; the result reads her events."""
    codec = shop.renamed(domain_name).codec

    async def use(event: Event | None) -> list[Event]:
        async with (
            connect(settings_for(nats_server.url, domain_name)) as client,
            EventStore(client, codec) as store,
        ):
            if event is not None:
                await declare(client, topology(codec.subjects, StreamSettings()))
                await store.append("customer", "ann", event)
            return [each.data async for each in store.read("customer", "ann")]

    asyncio.run(use(CustomerRegistered(email="ann@example.org")))
    return lambda: asyncio.run(use(None))


def test_an_empty_subject_is_refused(cli: CommandLine) -> None:
    ended = cli.call("audit", "forget", "")
    assert (ended.status, ended.out) == (2, "")
    assert "it must not be empty" in ended.err


def test_it_forgets_and_reports_what_remains(cli: CommandLine, read: Read) -> None:
    ended = cli.call("audit", "forget", "ann", "--yes")

    assert (ended.status, ended.err) == (0, "")
    first, second, third = ended.lines
    assert first.startswith("forgotten: ann, at 20")
    assert first.endswith("Z; the key is destroyed")
    assert "chains verify" in second
    assert third == "No read model of this program has personal data."
    assert max(map(len, ended.lines)) <= 100
    assert read() == [CustomerRegistered(email="[forgotten]")]


def test_it_is_one_object_as_json(cli: CommandLine, read: Read) -> None:
    refused = cli.call("audit", "forget", "ann", "--json")
    assert (refused.status, refused.out) == (2, "")
    assert "--yes" in refused.err
    made = json.loads(cli.call("audit", "forget", "ann", "--yes", "--json").out)
    assert made["subject"] == "ann"
    assert made["forgotten"].startswith("20")
    assert (made["parked"], made["outcomes"]) == ([], [])
    assert read() == [CustomerRegistered(email="[forgotten]")]


def test_repeated_it_reports_the_time_of_the_first(cli: CommandLine, read: Read) -> None:
    first = cli.call("audit", "forget", "ann", "--yes")
    assert cli.call("audit", "forget", "ann", "--yes") == first


def test_an_unknown_subject_cannot_be_forgotten(
    cli: CommandLine, read: Read, domain_name: str
) -> None:
    ended = cli.call("audit", "forget", "zo\x1be", "--yes")

    assert (ended.status, ended.err) == (1, "")
    assert ended.lines == [f"nothing was changed: {domain_name} has no personal data of zo\\x1be"]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "nothing", "no-terminal"])
def test_without_confirmation_nothing_is_changed(cli: CommandLine, read: Read, answer: str) -> None:
    ended = cli.call("audit", "forget", "ann", stdin=answer)

    assert ended.status == 1
    assert ended.lines[0].startswith("All personal data of ann in ")
    assert read() == [CustomerRegistered(email="ann@example.org")]


def test_a_confirmation_is_enough(cli: CommandLine, read: Read) -> None:
    assert cli.call("audit", "forget", "ann", stdin="y\n").status == 0
    assert read() == [CustomerRegistered(email="[forgotten]")]


def test_without_a_declared_domain_the_error_says_what_to_do(cli: CommandLine) -> None:
    ended = cli.call("audit", "forget", "ann", "--yes")

    assert ended.status == 2
    assert "audit-forget was not begun, because it cannot be recorded" in ended.err
    assert "start a service" in ended.err
    assert "start a service" in ended.err


def test_read_models_with_personal_data_are_listed(
    cli: CommandLine, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    concerned = nix_projections()[0]

    def fields(codec: object, cls: type[Event]) -> tuple[str, ...]:
        return ("name",) if cls in concerned.event_types else ()

    monkeypatch.setattr(type(nix.domain().codec), "personal_fields", fields)
    ended = cli.call("audit", "forget", "ann", "--yes")

    assert ended.lines[2] == "These read models have its data until they are rebuilt:"
    assert ended.lines[3:] == [
        f"  eventstore projection rebuild {name}" for name in (concerned.name, "inputs")
    ]
