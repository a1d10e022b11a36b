"""A running service publishes its events for clients without this library."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from eventstore.client.client import Client
from eventstore.server.embedded import EmbeddedServer
from tests.integration.command_line import CommandLine

WILDCARDS = [
    "{domain}.>",
    "{domain}.event.>",
    "{domain}.*.flake.>",
    "{domain}.event.*.created",
]


@pytest.fixture
def external(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    """With a configuration that keeps the test apart from others on the shared server."""
    cli = CommandLine(tmp_path)
    (cli.folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    cli.environ |= {"EVENTSTORE_CONFIG": "own.toml", "NATS_URL": nats_server.url}
    return cli


async def first(client: Client, wildcard: str, subject: str) -> asyncio.Future[Msg]:
    """Subscribe to a wildcard; completes with the first message of the subject."""
    arrived: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def receive(message: Msg) -> None:
        if message.subject == subject and not arrived.done():
            arrived.set_result(message)

    await client.nats.subscribe(wildcard, cb=receive)
    return arrived


async def test_events_arrive_on_every_wildcard(
    external: CommandLine, client: Client, domain_name: str
) -> None:
    wildcards = [each.format(domain=domain_name) for each in WILDCARDS]
    arriving = [
        await first(client, each, f"{domain_name}.event.flake.created") for each in wildcards
    ]
    with external.serving():
        await client.nats.jetstream().publish(
            f"{domain_name}.cmd.flake.create", b'{"path": "./x", "description": ""}'
        )
        arrived = await asyncio.wait_for(asyncio.gather(*arriving), 20)

    message = arrived[0]
    assert all((each.data, each.headers) == (message.data, message.headers) for each in arrived)
    headers = message.headers or {}
    assert message.data == b'{"path":"./x","description":"","template":null}'
    assert headers["Nats-Msg-Id"] == headers["X-Event-ID"]
    assert headers["X-Event-Type"] == "FlakeCreated"
    assert headers["X-Aggregate-Version"] == "1"
    assert headers["X-Position"] == "1"
    for name in (
        "X-Correlation-ID",
        "X-Causation-ID",
        "X-Aggregate-ID",
        "X-Timestamp",
        "X-Domain",
        "X-Schema-Version",
        "X-Chain",
        "Content-Type",
    ):
        assert headers[name]


async def test_commands_can_be_watched_on_every_wildcard(
    external: CommandLine, client: Client, domain_name: str
) -> None:
    subject = f"{domain_name}.cmd.flake.create"
    wildcards = (f"{domain_name}.cmd.>", f"{domain_name}.cmd.*.create")
    seen = [await first(client, each, subject) for each in wildcards]
    with external.serving():
        await client.nats.jetstream().publish(subject, b'{"path": "./x", "description": ""}')
        await asyncio.wait_for(asyncio.gather(*seen), 20)


async def test_queries_can_be_watched(
    external: CommandLine, client: Client, domain_name: str
) -> None:
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def receive(message: Msg) -> None:
        seen.set_result(message.subject)

    await client.nats.subscribe(f"{domain_name}.query.>", cb=receive)
    with external.serving():
        subject = f"{domain_name}.query.command.get_status"
        answer = await client.request(subject, b'{"command_id": "none"}')
        assert await asyncio.wait_for(seen, 20) == subject
    assert answer.data
