"""Moves of a service: from one server or replica to three, and from SQLite to PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from eventstore import Application
from eventstore.backup import back_up, restore
from eventstore.client.client import Client, connect
from eventstore.jetstream.api import find_stream, log_end
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for
from tests.fault import selling
from tests.fault.selling import BOUND, ROOT, SHOP, Orders, serving
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]

ORDERS = 120

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.environ.get("FAULT") != "long", reason="a minute each: make fault"),
]


async def test_from_one_server_to_three(
    server: EmbeddedServer, cluster: list[EmbeddedServer], shop_app: Application, tmp_path: Path
) -> None:
    orders, made, there = Orders(ORDERS), tmp_path / "made", tmp_path / "there"
    there.mkdir()
    settings = settings_for(server.url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        async with serving(ROOT, server.url, tmp_path):
            await orders.send(shop, end=ORDERS // 2)
        await back_up(client, SHOP, made, read_model=tmp_path / "rows.sqlite")
    settings = settings_for(cluster[0].url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        await selling.until_led(client)
        await restore(client, SHOP, made, replicas=3, read_model=there / "rows.sqlite")
        found = await find_stream(client, SHOP.log_stream)
        assert found is not None
        assert found.replicas == 3
        replicated = {"EVENTSTORE_STREAMS_REPLICAS": "3"}
        async with serving(ROOT, cluster[0].url, there, **replicated):
            await orders.send(shop)
            await selling.settled(client)
            await selling.until_applied(client, there)
        again = await back_up(client, SHOP, tmp_path / "of three")
        assert again.events == await log_end(client, SHOP)
        await selling.judge_streams(client, ORDERS)
    selling.judge_rows(there / "rows.sqlite", ORDERS)


async def test_from_one_replica_to_three(
    cluster: list[EmbeddedServer], shop_app: Application, tmp_path: Path
) -> None:
    orders, url = Orders(ORDERS, patience=10.0), ",".join(each.url for each in cluster)
    settings = settings_for(url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        await selling.until_led(client)
        await forget_streams(client)
        async with serving(ROOT, url, tmp_path):
            await orders.send(shop, end=ORDERS // 3)
            customers = asyncio.create_task(orders.send(shop, end=2 * ORDERS // 3))
            for stream in (await client.api("STREAM.NAMES"))["streams"]:
                config = (await client.api(f"STREAM.INFO.{stream}"))["config"]
                await client.api(f"STREAM.UPDATE.{stream}", {**config, "num_replicas": 3})
            await customers
        async with serving(ROOT, url, tmp_path, EVENTSTORE_STREAMS_REPLICAS="3"):
            await orders.send(shop)
            await selling.settled(client, 10.0)  # a lost command is sent again after five
            await selling.until_applied(client, tmp_path)
        await selling.judge_streams(client, ORDERS)
    selling.judge_rows(tmp_path / "rows.sqlite", ORDERS)


async def forget_streams(client: Client) -> None:
    """Delete what another test has left on the servers."""
    for stream in (await client.api("STREAM.NAMES"))["streams"] or ():
        await client.api(f"STREAM.DELETE.{stream}")


async def test_from_sqlite_to_postgresql(
    server: EmbeddedServer, new_postgresql: str, shop_app: Application, tmp_path: Path
) -> None:
    orders = Orders(ORDERS)
    settings = settings_for(server.url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        async with serving(ROOT, server.url, tmp_path) as old:
            await orders.send(shop, end=ORDERS // 2)
            moved = {"EVENTSTORE_DATABASE": new_postgresql}
            async with serving(ROOT, server.url, tmp_path, **moved):
                old.terminate()
                await asyncio.wait_for(old.wait(), BOUND)
                await orders.send(shop)
                await selling.settled(client)
                await until_rows(new_postgresql, ORDERS)
        await selling.judge_streams(client, ORDERS)


async def until_rows(url: str, count: int) -> None:
    """Wait until there is a confirmed row for each order, and no other one."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(BOUND):
            rows: Sequence[object] = ()
            while len(rows) < count:
                rows = await connection.fetch("SELECT id FROM order_view WHERE status='confirmed'")
                await asyncio.sleep(0.1)
        assert len(rows) == count == await connection.fetchval("SELECT count(*) FROM order_view")
    finally:
        await connection.close()
