"""Nobody makes the service write where he may not, by the subject that he wants the answer on.

On a server without accounts, where users only have rights: there the server does not look at the
reply subject of a request, and the service may publish everywhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client as PlainClient

from eventstore import nix
from eventstore.application import WriteSide, running
from eventstore.audit.aggregate_history import history_answers
from eventstore.client.responder import Reply, Request, Responder
from eventstore.config import AuthSettings, Secret, ServiceIdentity
from eventstore.messages.envelope import new_id
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.checks import ConnectionCheck
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Health
from eventstore.service.metrics import Metrics
from tests.conftest import StartServer, settings_for

ROLES = Path(__file__).parents[2] / "data" / "one_account.conf"
USERS = ("service", "admin", "developer", "reader")
BOUND = 10.0
DETOURS = [
    "nix.log.flake.f1",
    "nix.event.flake.created",
    "nix.cmd.flake.create",
    "nix.parked.x",
    "$KV.NIX_CONFIG.log_level",
    "$JS.API.STREAM.DELETE.NIX_LOG",
    "$JS.API.STREAM.PURGE.NIX_EVENT",
    "discovery.announce",
]
CONFIG = "KV_NIX_CONFIG"
STREAMS = ("NIX_LOG", "NIX_EVENT", "NIX_CMD", "NIX_PARKED", CONFIG)
"""What the detours lead to; the outcomes of commands are written by right."""


@pytest.fixture
async def server(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> EmbeddedServer:
    for user in USERS:
        monkeypatch.setenv(f"NATS_{user.upper()}_PASSWORD", user)
    return await start_server(extra_config=ROLES.read_text(encoding="utf-8"))


@pytest.fixture
async def service(server: EmbeddedServer) -> AsyncIterator[WriteSide]:
    """All that answers: commands, queries, health, discovery, metrics and NATS micro."""
    auth = AuthSettings(user="service", password=Secret("service"))
    named = ServiceIdentity(name="svc", version="1.2.3")
    health = Health(named.name, named.version, {}, cache_ttl=0.0)

    async def listed(_request: Request) -> Reply:
        return Reply(b'{"items": []}', {"X-Position": "0"})

    async with WriteSide(nix.domain(), settings_for(server.url, auth=auth)) as app:
        answers = {"nix.query.flake.list": listed, **history_answers(app.client, app.domain)}
        queries = Responder(app.client, answers, queue="svc")
        metrics = Metrics(service=named.name, version=named.version)
        endpoints = ServiceEndpoints(app.client, app.domain.codec, health, named, metrics=metrics)
        created = nix.CreateFlake(path=".", description="")
        assert (await app.commands.execute(created, "f1")).status == "success"
        async with asyncio.timeout(60), running(queries, endpoints):
            await queries.ready.wait()
            await endpoints.ready.wait()
            yield app


async def plain(server: EmbeddedServer, user: str) -> PlainClient:
    """A client that knows nothing of ours."""
    return await nats.connect(server.url, user=user, password=user)


async def contents(app: WriteSide) -> dict[str, Any]:
    """What the streams hold, but for the service's heartbeat, and that they are the same ones."""
    every = {"subjects_filter": ">"}
    infos = {name: await app.client.api(f"STREAM.INFO.{name}", every) for name in STREAMS}
    return {name: (info["created"], _held(name, info["state"])) for name, info in infos.items()}


def _held(stream: str, state: dict[str, Any]) -> Any:
    if stream != CONFIG:
        return state["messages"], state["last_seq"]
    subjects = state.get("subjects") or {}
    return {each: count for each, count in subjects.items() if ".heartbeat." not in each}


def forged() -> dict[str, str]:
    """The headers of an event that would stand in the log, if an answer gave them back."""
    own = new_id()
    return {
        "X-Event-ID": own,
        "Nats-Msg-Id": own,
        "X-Event-Type": "FlakeCreated",
        "X-Correlation-ID": own,
        "X-Causation-ID": own,
        "X-Aggregate-ID": "f1",
        "X-Aggregate-Version": "2",
        "X-Schema-Version": "1",
        "X-Timestamp": "2026-01-01T00:00:00.000000Z",
        "X-Domain": "nix",
        "X-Actor": "somebody-else",
        "X-Chain": "0" * 64,
        "Content-Type": "application/json",
    }


ASKED = [
    "health.nix",
    "health.svc",
    "discovery.svc",
    "metrics.nix",
    "nix.query.flake.list",
    "nix.query.audit.history",
    "$SRV.PING",
    "$SRV.PING.svc",
    "$SRV.INFO",
    "$SRV.STATS",
]


@pytest.mark.parametrize("subject", ASKED)
async def test_only_inboxes_are_answered(
    server: EmbeddedServer,
    service: WriteSide,
    subject: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = await contents(service)
    reader = await plain(server, "reader")
    for detour in DETOURS:
        for payload in (b"", b"nonsense", b"{}"):
            await reader.publish(subject, payload, reply=detour, headers=forged())
            await reader.publish(subject, payload, reply=detour)

    answer = await reader.request(subject, timeout=BOUND)  # after all of these were looked at
    await service.client.flush()
    await reader.close()

    assert answer.data
    assert await contents(service) == before
    refusals = [each for each in caplog.records if "is no inbox" in each.getMessage()]
    assert [each.getMessage().split(":")[0] for each in refusals] == [subject]
    facts = (await ConnectionCheck(service.client)()).facts
    assert facts["refused_answers"] == 6 * len(DETOURS)


@pytest.mark.parametrize("subject", ASKED)
async def test_the_headers_of_a_request_are_not_returned(
    server: EmbeddedServer, service: WriteSide, subject: str
) -> None:
    reader = await plain(server, "reader")
    sent = {**forged(), "X-Whatever": "x"}
    answer = await reader.request(subject, headers=sent, timeout=BOUND)
    await reader.close()

    returned = answer.headers or {}
    of_the_correlation = (
        {"X-Correlation-ID", "X-Causation-ID"} if subject.startswith("nix.") else set()
    )
    echoed = {name for name, value in returned.items() if value == sent.get(name)}
    assert echoed - of_the_correlation <= {"Content-Type"}
    assert not returned.keys() & (
        {"X-Event-Type", "X-Chain", "X-Aggregate-ID", "X-Actor", "Nats-Msg-Id", "X-Whatever"}
    )


async def test_outcomes_are_sent_to_inboxes_only(
    server: EmbeddedServer, service: WriteSide
) -> None:
    before = await contents(service)
    developer = await plain(server, "developer")
    inbox = developer.new_inbox()
    answers = await developer.subscribe(inbox)
    for address in (*DETOURS, inbox):
        await developer.request(
            "nix.cmd.flake.create",
            b'{"path": ".", "description": ""}',
            headers={"X-Aggregate-ID": "f1", "X-Reply-To": address},
            timeout=BOUND,
        )
    outcome = json.loads((await answers.next_msg(BOUND)).data)
    await service.client.flush()
    await developer.close()

    assert outcome["status"] == "rejected"  # for there is such a flake, so that nothing is added
    after = await contents(service)
    assert {**after, "NIX_CMD": None} == {**before, "NIX_CMD": None}
    assert after["NIX_CMD"][1][1] == before["NIX_CMD"][1][1] + len(DETOURS) + 1


async def test_a_refusal_is_never_empty(server: EmbeddedServer, service: WriteSide) -> None:
    reader = await plain(server, "reader")
    for subject in ("health.nix", "metrics.nix", "nix.query.audit.history"):
        answer = await reader.request(subject, b"nonsense", timeout=BOUND)
        assert answer.headers is not None
        assert answer.headers["Nats-Service-Error"]
        assert json.loads(answer.data)["status"] == "error"
    await reader.close()
