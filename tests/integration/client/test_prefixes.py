"""The prefixes of inboxes and of JetStream's API, on a server that allows no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from eventstore import nix
from eventstore.application import WriteSide, running
from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import connect
from eventstore.client.responder import Reply, Request, Responder
from eventstore.commands import CommandClient
from eventstore.config import AuthSettings, Secret, ServiceIdentity, Settings
from eventstore.errors import PermissionDenied
from eventstore.parking.messages import ParkedMessages
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.discovery import discover
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Health
from eventstore.service.runtime_config import RuntimeConfig
from tests.conftest import StartServer, settings_for
from tests.integration.commanding import until

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
async def application(guest: Settings) -> AsyncIterator[WriteSide]:
    async with WriteSide(nix.domain(), guest) as application:
        yield application


async def test_all_subjects_use_the_prefixes_of_the_settings(application: WriteSide) -> None:
    client, subjects = application.client, application.domain.codec.subjects
    assert client.inbox_prefix.startswith("_INBOX_g.guest.")
    created = nix.CreateFlake(path=".", description="")
    outcome = await application.commands.execute(created, "f1", timeout=20)

    async def is_acknowledged() -> bool:
        info = await client.api(f"STREAM.INFO.{subjects.command_stream}", answer=StreamInfo)
        return info.state.messages == 0

    await until(is_acknowledged)
    assert outcome.status == "success"
    assert await application.commands.outcome(outcome.command_id) == outcome
    head = await application.store.head("flake", "f1", leader=True)
    assert head.version == 1
    assert [event.position async for event in application.store.read("flake", "f1")] == [1]
    async with aclosing(application.store.read_all()) as events:
        assert (await anext(events)).position == 1
    assert [message async for message in ParkedMessages(client, subjects).read()] == []
    assert await RuntimeConfig(client, subjects).get_all()
    assert await discover(client, 0.1) == []


PEOPLE = """
accounts {
  STORE: {
    jetstream: enabled
    users: [ { user: service, password: service, permissions: {
      publish: { deny: ["$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.PURGE.>"] }
    } } ]
    exports: [
      { service: "nix.cmd.>" }
      { service: "nix.query.>" }
      { service: "health.>" }
      { stream: "_INBOX_c.>" }
    ]
  }
  PEOPLE: {
    imports: [
      { service: { account: STORE, subject: "nix.cmd.>" }, share: true }
      { service: { account: STORE, subject: "nix.query.>" }, share: true }
      { service: { account: STORE, subject: "health.>" } }
      { stream: { account: STORE, subject: "_INBOX_c.>" } }
    ]
    users: [
      { user: ann, password: ann, permissions: {
        publish: ["nix.cmd.>", "nix.query.>", "health.>"], subscribe: ["_INBOX_c.ann.>"]
      } }
      { user: bob, password: bob, permissions: {
        publish: ["nix.query.>", "health.>"], subscribe: ["_INBOX_c.bob.>"]
      } }
    ]
  }
}
"""


def settings_of(server: EmbeddedServer, user: str, **nats: Any) -> Settings:
    return settings_for(server.url, auth=AuthSettings(user=user, password=Secret(user)), **nats)


async def test_users_of_another_account_are_answered_in_their_own_inboxes(
    start_server: StartServer,
) -> None:
    server = await start_server(extra_config=PEOPLE)

    async def listed(_request: Request) -> Reply:
        return Reply(b"[]")

    service = settings_of(server, "service", reply_prefixes=("_INBOX_c",))
    ann, bob = (
        settings_of(server, user, inbox_prefix=f"_INBOX_c.{user}") for user in ("ann", "bob")
    )
    async with asyncio.timeout(40), WriteSide(nix.domain(), service) as app:
        codec, named = app.domain.codec, ServiceIdentity(name="svc", version="1.2.3")
        queries = Responder(app.client, {"nix.query.flake.list": listed}, queue="svc")
        endpoints = ServiceEndpoints(app.client, codec, Health("svc", "1.2.3", {}), named)
        async with running(queries, endpoints), connect(ann) as client, connect(bob) as other:
            await queries.ready.wait()
            await endpoints.ready.wait()
            async with CommandClient(client, codec) as commands:
                created = nix.CreateFlake(path=".", description="")
                assert (await commands.execute(created, "f1", timeout=20)).status == "success"
            for asking in (client, other):
                assert (await asking.request("nix.query.flake.list")).data == b"[]"
                assert b"healthy" in (await asking.request("health.nix")).data
            with pytest.raises(PermissionDenied):
                await other.request("nix.cmd.flake.create")
