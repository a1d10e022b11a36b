"""Upgrades of services from the previous release, and back, and of servers, while orders go on.

The previous one is a revision of this repository, by default the one named below; another one by
`PREVIOUS=REVISION`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from eventstore import Application
from eventstore.client.client import connect
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for
from tests.fault import selling
from tests.fault.selling import BOUND, EXAMPLE, ROOT, Orders, serving
from tests.integration.command_line import CommandLine
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]

PREVIOUS = os.environ.get("PREVIOUS", "6b662c4a")
ORDERS = 150

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("FAULT") != "long",
        reason="needs the repository's history, and a minute: make fault",
    ),
]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the previous release."""
    folder = tmp_path_factory.mktemp("previous")
    archive = ["git", "-C", str(ROOT), "archive", PREVIOUS, "eventstore", "projections", "examples"]
    files = subprocess.run(archive, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)  # noqa: S607
    return folder


def test_the_previous_release_is_another_one(previous: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(previous)}
    where = "import eventstore; print(eventstore.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", where], env=environ, cwd=previous, capture_output=True, text=True
    )
    assert ran.stdout.strip() == str(previous / "eventstore" / "__init__.py")
    assert previous / "examples" / "shop" != EXAMPLE


async def test_two_releases_at_once_and_each_of_them_alone_lose_nothing(
    previous: Path, server: EmbeddedServer, shop_app: Application, tmp_path: Path
) -> None:
    """On the same read model: the old one is started again after the new one has migrated it."""
    orders, url = Orders(ORDERS), server.url
    settings = settings_for(url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        async with AsyncExitStack() as services:
            old = await services.enter_async_context(serving(previous, url, tmp_path))
            await orders.send(shop, end=ORDERS // 4)
            new = await services.enter_async_context(serving(ROOT, url, tmp_path))
            customers = asyncio.create_task(orders.send(shop, first=ORDERS // 4))
            await orders.until(ORDERS // 2)
            await ended(old, signal.SIGKILL)
            await services.enter_async_context(serving(previous, url, tmp_path))
            await orders.until(3 * ORDERS // 4)
            assert not customers.done()
            await ended(new, signal.SIGTERM)
            await customers
            await selling.settled(client)
            await selling.until_applied(client, tmp_path)
        async with serving(ROOT, url, tmp_path):
            await orders.send(shop)
            await selling.settled(client)
            await selling.until_applied(client, tmp_path)
        await selling.judge_streams(client, ORDERS)
    selling.judge_rows(tmp_path / "rows.sqlite", ORDERS)


async def test_a_release_with_a_read_model_of_its_own_takes_over_without_a_pause(
    previous: Path, server: EmbeddedServer, shop_app: Application, tmp_path: Path
) -> None:
    orders, url, green = Orders(ORDERS), server.url, tmp_path / "green"
    green.mkdir()
    settings = settings_for(url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        async with serving(previous, url, tmp_path) as old:
            await orders.send(shop, end=ORDERS // 3)
            async with serving(ROOT, url, green):
                await orders.send(shop, first=ORDERS // 3, end=ORDERS // 2)
                await selling.until_applied(client, green)
                customers = asyncio.create_task(orders.send(shop, first=ORDERS // 2))
                await orders.until(ORDERS // 2 + 1)
                assert not customers.done()
                await ended(old, signal.SIGTERM)
                await customers
                await selling.settled(client)
                await selling.until_applied(client, green)
        await selling.judge_streams(client, ORDERS)
    selling.judge_rows(green / "rows.sqlite", ORDERS)


async def test_three_servers_are_restarted_one_after_another(
    cluster: list[EmbeddedServer], shop_app: Application, tmp_path: Path
) -> None:
    orders, url = Orders(ORDERS), ",".join(each.url for each in cluster)
    settings = settings_for(url, "shop")
    asked = CommandLine(tmp_path, NATS_URL=url, EVENTSTORE_APP="shop.app:app")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        await selling.until_led(client)
        async with serving(ROOT, url, tmp_path, EVENTSTORE_STREAMS_REPLICAS="3"):
            for number, server in enumerate(cluster):
                await server.stop()
                await orders.send(shop, first=ORDERS * number // 4, end=ORDERS * (number + 1) // 4)
                await until_streams(asked, "degraded")
                await server.start()
                await until_streams(asked, "healthy")
            await orders.send(shop)
            await selling.settled(client, 10.0)  # a lost command is sent again after five
            await selling.until_applied(client, tmp_path)
        await selling.judge_streams(client, ORDERS)
    selling.judge_rows(tmp_path / "rows.sqlite", ORDERS)


async def until_streams(asked: CommandLine, status: str) -> None:
    """Wait until the service finds that its streams are so."""
    async with asyncio.timeout(BOUND):
        while True:
            answer = await asyncio.to_thread(asked.call, "health", "--json")
            if answer.out and json.loads(answer.out)["details"]["streams"]["status"] == status:
                return


async def ended(service: asyncio.subprocess.Process, by: signal.Signals) -> None:
    service.send_signal(by)
    await asyncio.wait_for(service.wait(), BOUND)
