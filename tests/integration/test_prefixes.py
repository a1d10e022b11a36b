"""The prefixes of inboxes and of JetStream's API, on a server that allows no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from eventstore import Application, nix
from eventstore.config import AuthSettings, Secret, Settings
from eventstore.configuration import Configuration
from eventstore.discovery import discover
from eventstore.parked import ParkedMessages
from eventstore.server import EmbeddedServer
from tests.conftest import StartServer, settings_for

ACCOUNTS = """
accounts {
  STORE: {
    jetstream: enabled
    users: [ { user: store, password: store } ]
    exports: [
      { service: "$JS.API.>", response: stream }
      { service: "$JS.ACK.>" }
      { service: "$KV.>" }
      { service: "nix.>" }
    ]
  }
  GUESTS: {
    imports: [
      { service: { account: STORE, subject: "$JS.API.>" }, to: "JSS.API.>" }
      { service: { account: STORE, subject: "$JS.ACK.>" } }
      { service: { account: STORE, subject: "$KV.>" } }
      { service: { account: STORE, subject: "nix.>" } }
    ]
    users: [
      { user: guest, password: guest, permissions: {
        publish: { deny: "$JS.API.>" }
        subscribe: ["_INBOX_g.guest.>", "discovery.announce"]
      } }
    ]
  }
}
"""


@pytest.fixture
async def server(start_server: StartServer) -> EmbeddedServer:
    return await start_server(extra_config=ACCOUNTS)


@pytest.fixture
async def guest(server: EmbeddedServer) -> Settings:
    """All the streams are another account's, and only inboxes of one's own may be listened to."""
    auth = AuthSettings(user="guest", password=Secret("guest"))
    return settings_for(server.url, auth=auth, inbox_prefix="_INBOX_g.guest", api_prefix="JSS.API")


@pytest.fixture
async def application(guest: Settings) -> AsyncIterator[Application]:
    async with Application(nix.domain(), guest) as application:
        yield application


async def test_everything_goes_by_the_prefixes_of_the_settings(application: Application) -> None:
    client, subjects = application.client, application.domain.codec.subjects
    assert client.inbox_prefix.startswith("_INBOX_g.guest.")
    created = nix.CreateFlake(path=".", description="")
    outcome = await application.commands.execute(created, "f1", timeout=20)
    assert outcome.status == "success"
    assert await application.commands.outcome(outcome.command_id) == outcome
    head = await application.store.head("flake", "f1", leader=True)
    assert head.version == 1
    assert [event.position async for event in application.store.read("flake", "f1")] == [1]
    async with aclosing(application.store.read_all()) as events:
        assert (await anext(events)).position == 1
    assert [message async for message in ParkedMessages(client, subjects).read()] == []
    assert await Configuration(client, subjects).get_all()
    assert await discover(client, 0.1) == []
