"""Subcommands that need no types, on the log of an application that is not named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventstore.client.client import connect
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from examples import bank
from tests.connection import settings_for
from tests.integration.command_line import CommandLine


async def fill(url: str, name: str) -> None:
    settings = settings_for(url, name)
    domain = bank.app.domain.renamed(name)
    async with connect(settings) as client, EventStore(client, domain.codec) as store:
        await declare(client, topology(domain.codec.subjects, settings.streams, domain))
        await store.append("account", "a", bank.Deposited(amount=7))


@pytest.fixture
def cli(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    asyncio.run(fill(nats_server.url, domain_name))
    text = f'[nats]\nsubject_prefix = "{domain_name}"\nurl = "{nats_server.url}"\n'
    (tmp_path / "own.toml").write_text(text)
    return CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("events", "Deposited account a v1"),
        ("events account", "Deposited account a v1"),
        ("events account a", "Deposited account a v1"),
        ("audit verify", "1 event of 1 aggregate verified"),
        ("audit verify --read", "1 event of 1 aggregate verified"),
        ("audit verify account", "1 event of 1 aggregate verified"),
        ("audit verify account a", "1 event of 1 aggregate verified"),
        ("audit anchor", '"events": 1'),
        ("export log.gz", ""),
        ("parked list", "nothing is parked"),
    ],
)
def test_it_works_on_the_stored_bytes(cli: CommandLine, words: str, shown: str) -> None:
    ended = cli.call(*words.split())
    assert ended.status == 0, ended
    assert shown in ended.out + ended.err


def test_an_unknown_type_is_a_finding_where_an_application_is_named(cli: CommandLine) -> None:
    named = cli.call("--app", "projections:app", "audit", "verify")
    assert named.status == 1, named
    assert "no event type 'Deposited' is known here" in named.out
    refused = cli.call("--app", "projections:app", "events", "account")
    assert "unknown aggregate 'account'" in refused.err


def test_an_aggregate_that_nobody_knows_is_refused_all_the_same(cli: CommandLine) -> None:
    for words in (("events", "acount"), ("audit", "verify", "acount")):
        refused = cli.call(*words)
        assert refused.status == 2
        assert "unknown aggregate 'acount'" in refused.err
