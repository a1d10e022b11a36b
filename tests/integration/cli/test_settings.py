"""The settings of a connection on the command line, with a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventstore import load_settings, nix
from eventstore.application import WriteSide
from eventstore.client.client import connect
from eventstore.config import AuthSettings, Secret, Settings
from eventstore.errors import NoResponders
from eventstore.jetstream.vocabulary import Api
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import StartServer, settings_for
from tests.integration.command_line import CommandLine

SERVER = """
authorization { users: [
  { user: ann, password: s3cret, permissions: {
    subscribe: { deny: "_INBOX.>" }
  } }
] }
"""
OWN = {"inbox_prefix": "_INBOX_ann", "jetstream_domain": "hub"}


@pytest.fixture
async def server(start_server: StartServer) -> EmbeddedServer:
    return await start_server(extra_config=SERVER, jetstream_config="domain: hub")


def settings_of_ann(server: EmbeddedServer, **nats: Any) -> Settings:
    return settings_for(
        server.url, auth=AuthSettings(user="ann", password=Secret("s3cret")), **(OWN | nats)
    )


def save_context(home: Path, name: str, **fields: str) -> None:
    folder = home / ".config" / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(fields))


@pytest.fixture
async def cli(tmp_path: Path, server: EmbeddedServer) -> CommandLine:
    async with WriteSide(nix.domain(), settings_of_ann(server)) as app:
        created = nix.FlakeCreated(path=".", description="")
        await app.store.append("flake", "mine", created)
    return CommandLine(tmp_path, HOME=str(tmp_path))


USER = {"NATS_USER": "ann", "NATS_PASSWORD": "s3cret"}


def test_a_domain_and_an_inbox_prefix_as_options(cli: CommandLine, server: EmbeddedServer) -> None:
    cli.environ |= USER
    words = ("events", "--nats-url", server.url, "--inbox-prefix", "_INBOX_ann")
    ended = cli.call(*words, "--js-domain", "hub")
    assert (ended.status, ended.err) == (0, "")
    assert "FlakeCreated" in ended.out
    ended = cli.call(*words, "--js-api-prefix", "$JS.hub.API")
    assert "FlakeCreated" in ended.out
    ended = cli.call(*words, "--js-domain", "hub", "--js-api-prefix", "$JS.hub.API")
    assert "JetStream's API is given in more than one way: --js-domain, --js-api-pre" in ended.err


async def test_requests_go_to_the_domain(server: EmbeddedServer) -> None:
    async with connect(settings_of_ann(server)) as client:
        await client.api(Api.ACCOUNT_INFO, timeout=5)
    async with connect(settings_of_ann(server, jetstream_domain="other")) as client:
        with pytest.raises(NoResponders):
            await client.api(Api.ACCOUNT_INFO, timeout=5)


def test_they_are_set_by_the_environment(cli: CommandLine, server: EmbeddedServer) -> None:
    cli.environ |= USER | {
        "NATS_URL": server.url,
        "EVENTSTORE_NATS_INBOX_PREFIX": "_INBOX_ann",
        "EVENTSTORE_NATS_JETSTREAM_DOMAIN": "hub",
    }
    assert "FlakeCreated" in cli.call("events").out


def test_a_context_has_all_that_is_needed(cli: CommandLine, server: EmbeddedServer) -> None:
    login = {"user": "ann", "password": "s3cret"}
    save_context(cli.folder, "hub", url=server.url, **login, **OWN)
    ended = cli.call("events", "--context", "hub")
    assert (ended.status, ended.err) == (0, "")
    assert "FlakeCreated" in ended.out


async def test_code_uses_a_context(cli: CommandLine, server: EmbeddedServer) -> None:
    save_context(cli.folder, "hub", url=server.url, user="ann", password="s3cret", **OWN)  # noqa: S106
    settings = load_settings(environ={"HOME": str(cli.folder)}, context="hub")
    async with WriteSide(nix.domain(), settings) as app:
        assert [each.type async for each in app.store.read("flake", "mine")] == ["FlakeCreated"]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"EVENTSTORE_REPLICAS": "3"}, "EVENTSTORE_REPLICAS is not known; did you mean EVENTSTORE"),
        ({"EVENTSTORE_STREAMS_REPLICAS": "4"}, "STREAMS_REPLICAS: 4 is none of 1, 3, 5"),
        ({"NATS_CONTEXT": "none"}, "NATS_CONTEXT: there is no context 'none'"),
    ],
)
@pytest.mark.parametrize("words", ["serve", "events", "migrate"])
def test_what_the_environment_may_not_have_is_one_line(
    tmp_path: Path, words: str, environ: dict[str, str], problem: str
) -> None:
    cli = CommandLine(tmp_path, HOME=str(tmp_path), **environ)
    ended = cli.call(words)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert problem in ended.err
    assert cli.files() == []
