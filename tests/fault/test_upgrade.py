"""A rolling upgrade: a service of the previous release, and then one of this beside it.

The previous one is a revision of this repository, by default the one named below; another one by
`PREVIOUS=REVISION`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import Application
from eventstore.client.client import connect
from eventstore.jetstream.api import log_end
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for
from tests.fault.selling import (
    BOUND,
    EXAMPLE,
    ROOT,
    SHOP,
    Orders,
    judge,
    judge_rows,
    raw,
    serving,
    settled,
    shop_app,
    until_applied,
)

__all__ = ["shop_app"]

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


async def test_two_releases_at_once_and_then_the_new_one_lose_nothing(
    previous: Path, server: EmbeddedServer, shop_app: Application, tmp_path: Path
) -> None:
    orders = Orders(ORDERS)
    settings = settings_for(server.url, "shop")
    async with connect(settings) as client, shop_app.client(settings) as shop:
        async with serving(previous, server.url, tmp_path) as old:
            await orders.send(shop, end=ORDERS // 3)
            async with serving(ROOT, server.url, tmp_path):
                selling = asyncio.create_task(orders.send(shop, first=ORDERS // 3))
                await orders.until(2 * ORDERS // 3)
                old.send_signal(signal.SIGTERM)
                assert not selling.done()
                await asyncio.wait_for(old.wait(), BOUND)
                await selling
                await settled(client)
                await until_applied(tmp_path, await log_end(client, SHOP))
        judge(await raw(client, SHOP.log_stream), await raw(client, SHOP.event_stream), ORDERS)
    judge_rows(tmp_path / "rows.sqlite", ORDERS)
