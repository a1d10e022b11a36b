"""A backup made while a service works, and then everything is destroyed.

What is restored is judged by raw streams and rows: the log is the beginning of what there was; and
when the service runs on it and every command is sent once more, each order has gone its whole way
once, and none has stopped on it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventstore import Application
from eventstore.backup import back_up, restore
from eventstore.backup.manifest import Manifest
from eventstore.client.client import Client, connect
from eventstore.config import Settings, StreamSettings
from eventstore.jetstream.api import log_end
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.conftest import settings_for
from tests.fault.selling import SHOP, Orders, judge, judge_rows, raw, settled
from tests.integration.ledger import Noted, ledger

ORDERS, ROUNDS = 400, 4

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("FAULT") != "long",
        reason="minutes, in which the server redelivers what was in flight: make fault",
    ),
]


def settings_at(url: str, folder: Path) -> Settings:
    return settings_for(url, "shop").in_directory(folder).with_url(url)


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_no_order_is_lost_doubled_or_stuck(
    shop_app: Application, tmp_path: Path, number: int
) -> None:
    orders, backup = Orders(ORDERS), tmp_path / "backup"
    first, second = tmp_path / "first", tmp_path / "second"
    async with (
        EmbeddedServer(first / "nats") as server,
        connect(settings_for(server.url)) as client,
    ):
        settings = settings_at(server.url, first)
        async with shop_app.running(settings) as shop:
            selling = asyncio.create_task(orders.send(shop))
            share = ORDERS * (number + 1) // (ROUNDS + 2)
            await orders.until(share)
            await back_up(client, SHOP, backup, read_model=Path(settings.read_model.database))
            assert not selling.done(), "the backup is to be made while commands are carried out"
            await selling
        before = await raw(client, SHOP.log_stream)
    shutil.rmtree(first)

    async with (
        EmbeddedServer(second / "nats") as server,
        connect(settings_for(server.url)) as client,
    ):
        settings = settings_at(server.url, second)
        await restore(client, SHOP, backup, read_model=Path(settings.read_model.database))
        restored = await raw(client, SHOP.log_stream)
        assert 0 < len(restored) < len(before)
        assert restored == before[: len(restored)]
        async with shop_app.running(settings) as shop:
            await orders.send(shop)
            await settled(client)
            assert shop.projections is not None
            await shop.projections.wait(await log_end(client, SHOP), 60)
        log, feed = await raw(client, SHOP.log_stream), await raw(client, SHOP.event_stream)
        judge(log, feed, ORDERS)
    judge_rows(Path(settings.read_model.database), ORDERS)


@asynccontextmanager
async def server_in(folder: Path) -> AsyncIterator[tuple[EmbeddedServer, Client]]:
    async with (
        EmbeddedServer(folder / "nats") as server,
        connect(settings_for(server.url)) as client,
    ):
        yield server, client


async def test_no_backup_ends_within_an_atomic_batch(
    client: Client, domain_name: str, tmp_path: Path
) -> None:
    """Of 25 snapshots beside batches of 1,000, one or two would."""
    codec = ledger(domain_name)
    await declare(client, topology(codec.subjects, StreamSettings()))
    stop = asyncio.Event()

    async def write(store: EventStore) -> None:
        while not stop.is_set():
            await store.append("journal", "j", [Noted(text="x")] * 1_000)

    async with EventStore(client, codec) as store, asyncio.TaskGroup() as group:
        group.create_task(write(store))
        for number in range(25):
            await back_up(client, codec.subjects, tmp_path / str(number))
            part = Manifest.read(tmp_path / str(number)).part(codec.subjects.log_stream)
            assert part is not None
            assert part.origin.last % 1_000 == 0
        stop.set()
