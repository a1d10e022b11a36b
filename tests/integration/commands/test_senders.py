"""The sender of a command: as it claims, and according to the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client as PlainClient
from nats.aio.msg import Msg

from eventstore.application import WriteSide
from eventstore.audit.chain_check import Witness, check_chain
from eventstore.commands.senders import Senders
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import AUTHENTICATED_AS, Header
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import StartServer, settings_for
from tests.integration.client.test_malformed_headers import publishing
from tests.integration.commanding import counting, until

ACCOUNTS = """
accounts {
  STORE: {
    jetstream: enabled
    users: [{user: service, password: service}, {user: insider, password: insider}]
    exports: [{service: "nix.cmd.>"}]
  }
  CLIENTS: {
    users: [{user: anna, password: anna}, {user: bob, password: bob}]
    imports: [{service: {account: STORE, subject: "nix.cmd.>"}, share: true}]
  }
  OTHERS: {
    users: [{user: eve, password: eve}]
    imports: [{service: {account: STORE, subject: "nix.cmd.>"}}]
  }
}
"""
FORGED = json.dumps({"acc": "CLIENTS", "user": "root"})


@pytest.fixture
async def server(start_server: StartServer) -> EmbeddedServer:
    return await start_server(extra_config=ACCOUNTS)


def url_of(server: EmbeddedServer, user: str) -> str:
    return server.url.replace("://", f"://{user}:{user}@")


@asynccontextmanager
async def service(server: EmbeddedServer, **options: Any) -> AsyncIterator[WriteSide]:
    options = {"commands_cross_accounts": True, **options}
    settings = settings_for(url_of(server, "service"), **options)
    async with WriteSide(counting("nix"), settings) as app:
        # Of a command that is sent before the worker listens, nobody knows the sender.
        await asyncio.wait_for(app.worker.ready.wait(), 45.0)
        yield app


@asynccontextmanager
async def plain(server: EmbeddedServer, user: str) -> AsyncIterator[PlainClient]:
    connection = await nats.connect(url_of(server, user), name="root")
    try:
        yield connection
    finally:
        await connection.close()


async def send(client: PlainClient, target: str, **headers: str) -> None:
    """Send a command, and return when the stream has it."""
    await client.request(
        "nix.cmd.counter.add",
        b"{}",
        headers={"X-Aggregate-ID": target, **{k.replace("_", "-"): v for k, v in headers.items()}},
        timeout=10,
    )


async def sender_of(app: WriteSide, target: str) -> tuple[str | None, str | None]:
    """The actor and the sender that the only event of an aggregate names."""

    async def is_there() -> bool:
        return (await app.store.head("counter", target)).version > 0

    await until(is_there)
    (event,) = [event async for event in app.store.read("counter", target)]
    assert event.headers.get(AUTHENTICATED_AS) == event.envelope.authenticated_as
    return event.envelope.actor, event.envelope.authenticated_as


async def test_both_are_recorded_what_is_claimed_and_the_sender_according_to_the_server(
    server: EmbeddedServer,
) -> None:
    async with service(server) as app, plain(server, "anna") as anna, plain(server, "bob") as bob:
        await send(anna, "c1", X_Event_ID=new_id(), X_Actor="the boss")
        await send(bob, "c2", Nats_Msg_Id="order-17")
        assert await sender_of(app, "c1") == ("the boss", "CLIENTS/anna")
        assert await sender_of(app, "c2") == (None, "CLIENTS/bob")


@pytest.mark.parametrize(
    "forged",
    [
        {"Nats-Request-Info": FORGED},
        {"nats-request-info": FORGED},
        {"X-Authenticated-As": "CLIENTS/root"},
        {"Nats-Request-Info": FORGED, "X-Authenticated-As": "CLIENTS/root"},
    ],
    ids=str,
)
async def test_no_sender_can_say_it_himself(server: EmbeddedServer, forged: dict[str, str]) -> None:
    async with service(server) as app, plain(server, "anna") as anna:
        await send(anna, "c1", X_Event_ID=new_id(), **forged)
        assert await sender_of(app, "c1") == (None, "CLIENTS/anna")


CLAIM = f"Nats-Request-Info: {FORGED}\r\n".encode()
SPACED = f"Nats-Request-Info : {FORGED}\r\n".encode()


@pytest.mark.parametrize(
    "lines",
    [
        SPACED + b"X-Junk: ab",
        b" " + CLAIM + b"X-Junk: ab",
        CLAIM + CLAIM + b"X-Junk: ab",
        SPACED + b"Xab",
        SPACED + b"X: a\r",
        SPACED + b"X: a\r\n",
        SPACED + b"\r\nX: abc",
        SPACED + b"\r\n",
        CLAIM + b"Nats-Request-Info\t: {}\r\n\r\n",
    ],
    ids=str,
)
async def test_a_command_that_hides_the_servers_word_is_refused(
    server: EmbeddedServer, lines: bytes
) -> None:
    async with service(server) as app, publishing(url_of(server, "anna")) as anna:
        own = f"X-Event-ID: {new_id()}\r\nX-Aggregate-ID: c1\r\n".encode()
        await anna.publish(b"nix.cmd.counter.add", b"NATS/1.0\r\n" + own + lines)

        async def is_parked() -> bool:
            info = await app.client.api(f"STREAM.INFO.{app.domain.codec.subjects.parked_stream}")
            return bool(info["state"]["messages"])

        await until(is_parked)
        assert (await app.store.head("counter", "c1")).version == 0


async def test_of_several_claims_the_servers_word_alone_counts(server: EmbeddedServer) -> None:
    async with service(server) as app, publishing(url_of(server, "anna")) as anna:
        own = f"X-Event-ID: {new_id()}\r\nX-Aggregate-ID: c1\r\n".encode()
        block = b"NATS/1.0\r\n" + CLAIM + own + CLAIM + CLAIM + b"\r\n"
        await anna.publish(b"nix.cmd.counter.add", block)
        assert await sender_of(app, "c1") == (None, "CLIENTS/anna")


async def test_of_an_import_that_does_not_share_only_the_account_is_known(
    server: EmbeddedServer,
) -> None:
    async with service(server) as app, plain(server, "eve") as eve:
        await send(eve, "c1", X_Event_ID=new_id(), Nats_Request_Info=FORGED)
        assert await sender_of(app, "c1") == (None, "OTHERS")


async def test_in_one_account_nothing_is_trusted_unless_the_settings_say_so(
    server: EmbeddedServer,
) -> None:
    async with (
        service(server, commands_cross_accounts=False) as app,
        plain(server, "insider") as insider,
        plain(server, "anna") as anna,
    ):
        await send(insider, "c1", X_Event_ID=new_id(), Nats_Request_Info=FORGED)
        await send(anna, "c2", X_Event_ID=new_id(), X_Authenticated_As="CLIENTS/root")
        assert await sender_of(app, "c1") == (None, None)
        assert await sender_of(app, "c2") == (None, None)


async def test_what_no_worker_has_heard_and_what_has_no_id_has_no_known_sender(
    server: EmbeddedServer,
) -> None:
    async with service(server), plain(server, "anna"):
        pass  # the streams are there
    async with plain(server, "anna") as anna:
        own = new_id()
        await send(anna, "c1", X_Event_ID=own)
        async with service(server) as app:
            assert await sender_of(app, "c1") == (None, None)
            await send(anna, "c2")
            assert await sender_of(app, "c2") == (None, None)


async def test_what_two_have_sent_alike_has_no_sender(server: EmbeddedServer) -> None:
    async def heard(*senders: PlainClient, own: str) -> str | None:
        for sender in senders:
            await send(sender, "c1", X_Event_ID=own)
        await app.client.flush()  # what was published before has been heard then
        headers = {"X-Aggregate-ID": "c1", "X-Event-ID": own}
        subject, nobody = "nix.cmd.counter.add", Any
        message = Msg(nobody, subject=subject, data=b"{}", headers=headers)  # type: ignore[arg-type]
        return known.sender_of(message)

    async with (
        service(server, commands_cross_accounts=False) as app,
        Senders(app.client, app.domain.codec.subjects) as known,
        plain(server, "anna") as anna,
        plain(server, "bob") as bob,
    ):
        assert await heard(anna, own=new_id()) == "CLIENTS/anna"
        assert await heard(anna, anna, own=new_id()) == "CLIENTS/anna"
        assert await heard(anna, bob, anna, own=new_id()) is None


async def test_the_chain_holds_who_sent_it(server: EmbeddedServer) -> None:
    async with service(server) as app, plain(server, "anna") as anna:
        await send(anna, "c1", X_Event_ID=new_id())
        await sender_of(app, "c1")
        (event,) = [event async for event in app.store.read("counter", "c1")]
        subject = "nix.log.counter.c1"
        witness = Witness(event.id, event.type, event.envelope.chain)
        reader = DirectReader(app.client, app.domain.codec.subjects.log_stream)
        checked = await check_chain(reader, subject, witnesses={event.position: witness})
    assert (checked.problem, checked.authenticated) == (None, {event.id: "CLIENTS/anna"})
    chain = event.headers[Header.CHAIN]
    assert chain_value(GENESIS, subject, event.headers, event.payload) == chain
    for other in ("CLIENTS/bob", None):
        headers = {**event.headers, AUTHENTICATED_AS: other or ""}
        if other is None:
            del headers[AUTHENTICATED_AS]
        assert chain_value(GENESIS, subject, headers, event.payload) != chain
