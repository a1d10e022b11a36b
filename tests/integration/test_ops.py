"""The roles in ops/ give each user its rights, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventstore import Application, Client, CommandClient, connect, nix
from eventstore.application import running
from eventstore.asking import QueryClient
from eventstore.audit import GetHistory, SearchAudit, TraceStory
from eventstore.audit.history_answer import history_answers
from eventstore.config import AuthSettings, Secret
from eventstore.configuration import KEYS, Configuration
from eventstore.errors import NoResponders, PermissionDenied, RetryFailed
from eventstore.event_retry import ask_to_retry
from eventstore.parked import ParkedMessages
from eventstore.responder import Reply, Request, Responder
from eventstore.server import EmbeddedServer
from tests.conftest import StartServer, settings_for
from tests.integration.commanding import until

ROLES = Path(__file__).parents[2] / "ops" / "nats" / "roles.conf"
USERS = ("service", "admin", "developer", "reader")


@pytest.fixture
async def server(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> EmbeddedServer:
    for user in USERS:
        monkeypatch.setenv(f"NATS_{user.upper()}_PASSWORD", user)
    return await start_server(extra_config=ROLES.read_text(encoding="utf-8"))


@asynccontextmanager
async def client_of(server: EmbeddedServer, user: str) -> AsyncIterator[Client]:
    auth = AuthSettings(user=user, password=Secret(user))
    async with connect(settings_for(server.url, auth=auth)) as client:
        yield client


@pytest.fixture
async def service(server: EmbeddedServer) -> AsyncIterator[Application]:
    auth = AuthSettings(user="service", password=Secret("service"))
    async with Application(nix.domain(), settings_for(server.url, auth=auth)) as app:
        yield app


@pytest.mark.parametrize("user", ["admin", "developer"])
async def test_admins_and_developers_send_commands(
    server: EmbeddedServer, service: Application, user: str
) -> None:
    async with (
        client_of(server, user) as client,
        CommandClient(client, nix.domain().codec) as commands,
    ):
        outcome = await commands.execute(nix.CreateFlake(path=".", description=""), user)
        again = await commands.execute(
            nix.CreateFlake(path=".", description=""), user, command_id=outcome.command_id
        )
    assert outcome.status == "success"
    assert again == outcome


async def test_only_admins_activate_configurations(
    server: EmbeddedServer, service: Application
) -> None:
    created = nix.CreateConfiguration(name="host", modules=[])
    await service.commands.execute(created, "host")
    activate = nix.ActivateConfiguration(activation="switch")
    async with (
        client_of(server, "developer") as client,
        CommandClient(client, nix.domain().codec) as commands,
    ):
        with pytest.raises(PermissionDenied, match=r"nix\.cmd\.config\.activate"):
            await commands.execute(activate, "host")
    async with (
        client_of(server, "admin") as client,
        CommandClient(client, nix.domain().codec) as commands,
    ):
        assert (await commands.execute(activate, "host")).status == "success"


async def test_readers_send_no_commands(server: EmbeddedServer, service: Application) -> None:
    async with (
        client_of(server, "reader") as client,
        CommandClient(client, nix.domain().codec) as commands,
    ):
        with pytest.raises(PermissionDenied):
            await commands.send(nix.CreateFlake(path=".", description=""), "f1")


@pytest.mark.parametrize("user", ["admin", "developer", "reader"])
async def test_everybody_may_query(server: EmbeddedServer, service: Application, user: str) -> None:
    subjects = nix.domain().codec.subjects

    async def nothing(_request: Request) -> Reply:
        return Reply(b'{"items": []}', {"X-Position": "0"})

    queries = {
        subjects.query(query.__aggregate__, query.__action__): nothing for query in nix.QUERIES
    }
    responder = Responder(service.client, queries, queue="q")
    async with running(responder), client_of(server, user) as client:
        await responder.ready.wait()
        assert [item async for item in QueryClient(client, subjects).all(nix.ListFlakes())] == []
        for subject in queries:
            await client.request(subject)


@pytest.mark.parametrize("user", ["admin", "developer", "reader"])
@pytest.mark.parametrize(
    "subject",
    ["nix.log.flake.f1", "nix.event.flake.created", "nix.parked.x", "discovery.announce"],
)
async def test_only_the_service_writes_the_history_the_feed_what_is_parked_and_announcements(
    server: EmbeddedServer, service: Application, user: str, subject: str
) -> None:
    async with client_of(server, user) as client:
        with pytest.raises(PermissionDenied):
            await client.request(subject, b"{}")


async def test_only_admins_handle_what_is_parked_and_configure(
    server: EmbeddedServer, service: Application
) -> None:
    subjects = nix.domain().codec.subjects
    for aggregate_id in ("f1", "f2"):
        await service.client.request(
            subjects.command("flake", "create"), b"{", headers={"X-Aggregate-ID": aggregate_id}
        )

    async def both_are_parked() -> bool:
        info = await service.client.api(f"STREAM.INFO.{subjects.parked_stream}")
        return int(info["state"]["messages"]) == 2

    await until(both_are_parked)
    async with client_of(server, "developer") as client:
        with pytest.raises(PermissionDenied):
            await ParkedMessages(client, subjects).get(1)
        with pytest.raises(PermissionDenied):
            await ask_to_retry(client, subjects, "mailer", 1, 5.0)
        for key in KEYS:
            with pytest.raises(PermissionDenied):
                await Configuration(client, subjects).get(key)
            with pytest.raises(PermissionDenied):
                await Configuration(client, subjects).unset(key)
    async with client_of(server, "admin") as client:
        parked = ParkedMessages(client, subjects)
        assert [message.sequence async for message in parked.read()] == [1, 2]
        await parked.retry(2)
        await parked.discard(1)
        with pytest.raises(RetryFailed, match="does not run"):
            await ask_to_retry(client, subjects, "mailer", 1, 5.0)
        for key in KEYS:
            await Configuration(client, subjects).unset(key)
        assert set(await Configuration(client, subjects).get_all()) == set(KEYS)
        with pytest.raises(PermissionDenied):
            await client.request(f"$KV.{subjects.config_bucket}.feed.position", b"{}")


@pytest.mark.parametrize("user", ["admin", "developer", "reader"])
async def test_nobody_else_reaches_the_log_through_the_api(
    server: EmbeddedServer, service: Application, user: str
) -> None:
    async with client_of(server, user) as client:
        with pytest.raises(PermissionDenied):
            await client.api("STREAM.DELETE.NIX_LOG")


@pytest.mark.parametrize("user", ["admin", "developer", "reader"])
async def test_everybody_may_audit(server: EmbeddedServer, service: Application, user: str) -> None:
    created = nix.CreateFlake(path=".", description="")
    outcome = await service.commands.execute(created, "f1", actor="anna")
    subjects = service.domain.codec.subjects
    answers = history_answers(service.client, service.domain)
    responder = Responder(service.client, answers, queue="service")
    async with running(responder), client_of(server, user) as client:
        await responder.ready.wait()
        queries = QueryClient(client, subjects)
        history = await queries.ask(GetHistory(aggregate="flake", id="f1"))
        assert [step.causation_id for step in history.data.steps] == [outcome.command_id]
        for query in (TraceStory(id=outcome.command_id), SearchAudit()):
            with pytest.raises(NoResponders):  # allowed, but nobody has an index here
                await queries.ask(query)


@pytest.mark.parametrize("user", ["admin", "developer", "reader"])
async def test_everybody_may_ask_for_health_metrics_and_services(
    server: EmbeddedServer, service: Application, user: str
) -> None:
    async with client_of(server, user) as client:
        for subject in ("health.nix", "metrics.nix", "discovery.cim-domain-nix", "$SRV.PING"):
            with pytest.raises(NoResponders):
                await client.request(subject)
