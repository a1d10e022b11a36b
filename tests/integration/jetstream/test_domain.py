"""A service on a leaf node, whose JetStream is in the domain of the hub."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventstore.config import Address, NatsSettings, Settings
from eventstore.jetstream.key_value import KeyValue
from eventstore.server.embedded import EmbeddedServer
from examples import bank
from tests.ports import free_ports

BOUND = 45.0
_ACCOUNTS = (
    "accounts { A { jetstream: enabled, users: [{ user: a, password: a }] } }\nno_auth_user: a\n"
)


async def test_all_that_is_stored_is_in_the_domain(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    listening = f'leafnodes {{ listen: "127.0.0.1:{port}" }}'
    remote = f'{{ url: "nats://a:a@127.0.0.1:{port}", account: A }}'
    async with (
        asyncio.timeout(BOUND),
        EmbeddedServer(
            tmp_path / "hub",
            extra_config=f"{_ACCOUNTS}server_name: hub\n{listening}",
            jetstream_config="domain: hub",
        ) as hub,
        EmbeddedServer(
            tmp_path / "leaf",
            extra_config=f"{_ACCOUNTS}server_name: leaf\nleafnodes {{ remotes: [{remote}] }}",
            jetstream_config="domain: leaf",
        ) as leaf,
    ):
        on_leaf = Settings(nats=NatsSettings(url=(Address(leaf.url),), jetstream_domain="hub"))
        on_hub = Settings(nats=NatsSettings(url=(Address(hub.url),)))
        async with bank.app.running(on_leaf.in_directory(tmp_path)) as service:
            outcome = await service.execute(bank.Deposit(amount=7), "a")
            rejected = await service.execute(bank.Withdraw(amount=8), "a")
            view = await service.ask(bank.GetAccount(id="a"), wait_for=outcome.position)
            assert (outcome.status, rejected.status, view.balance) == ("success", "rejected", 7)

            bucket = KeyValue(service.client, service.domain.codec.subjects.config_bucket)
            changes: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
            stop = await bucket.watch(lambda *change: changes.put_nowait(change), lambda: None)
            await bucket.put("log_level", b'"warning"')
            assert await changes.get() == ("log_level", b'"warning"')
            await stop()
        async with bank.app.client(on_hub) as client:
            stored = await client.commands.outcome(rejected.command_id)
            assert stored is not None
            assert stored.code == "not_covered"
