"""Orders of the example shop in fault tests: each goes its way once, whatever happens.

Judged by the raw streams and by the rows, with nothing of the shop's or the library's folds.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from eventstore.client.client import Client
from eventstore.errors import ClientError, ConnectionLost, RequestTimeout
from eventstore.jetstream.api import log_end
from eventstore.messages.subjects import Subjects
from eventstore.store.log import StoredLog
from tests.integration.commanding import until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "shop"
AT_ONCE = 24
BOUND = 300.0
SHOP = Subjects("shop")
WAY = ["OrderPlaced", "OrderPaid", "OrderConfirmed"]


def id_of(command: str) -> str:
    return str(uuid5(NAMESPACE_OID, command))


class Orders:
    """Customers who place orders and pay them; each command has an id of its own.

    They send a command again, with its id, if the connection was lost meanwhile, and after
    `patience` seconds without an answer.
    """

    def __init__(self, count: int, patience: float = math.inf) -> None:
        self._patience = patience
        self._moved = asyncio.Event()
        self._order = importlib.import_module("shop.order")
        self._stock = importlib.import_module("shop.stock")
        self._money = importlib.import_module("shop.money")
        self.done = 0
        self.count = count

    async def send(self, shop: Any, *, first: int = 0, end: int | None = None) -> None:
        """Send all commands, or those of some orders; a repeat has the outcome of the first."""
        tea = self._stock.ReceiveStock(quantity=10 * self.count)
        await self._sent(shop, tea, "tea", "tea")
        numbers = iter(range(first, self.count if end is None else end))

        async def customer() -> None:
            for number in numbers:
                await self._buy(shop, number)
                self.done += 1
                self._moved.set()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(customer())

    async def until(self, done: int) -> None:
        async with asyncio.timeout(BOUND):
            while self.done < done:
                self._moved.clear()
                await self._moved.wait()

    async def _buy(self, shop: Any, number: int) -> None:
        order = f"o{number}"
        price = self._money.Money(amount=1, currency="EUR")
        place = self._order.PlaceOrder(
            customer=f"c{number % 7}", article="tea", quantity=2, price=price
        )
        await self._sent(shop, place, order, f"{order} place")
        await self._sent(shop, self._order.PayOrder(), order, f"{order} pay")

    async def _sent(self, shop: Any, command: Any, aggregate: str, name: str) -> None:
        seconds = min(self._patience, BOUND)
        while True:
            try:
                await shop.execute(command, aggregate, command_id=id_of(name), timeout=seconds)
            except ConnectionLost:
                await asyncio.sleep(0.1)
            except RequestTimeout:
                if seconds == BOUND:
                    raise
            else:
                return


async def raw(client: Client, stream: str) -> list[Any]:
    pages = StoredLog(client, stream).pages()
    async with aclosing(pages) as read:
        return [message async for page in read for message in page.messages]


async def until_led(client: Client) -> None:
    """Wait until the servers of a cluster have found each other."""

    async def is_led() -> bool:
        with suppress(ClientError):
            await client.api("STREAM.NAMES", timeout=1.0)
            return True
        return False

    await until(is_led)


async def settled(client: Client, seconds: float = 1.0) -> None:
    """Wait until all orders have gone their way, and nothing has moved for some seconds."""
    last, calm = -1, 0
    async with asyncio.timeout(BOUND):
        while calm < 10 * seconds:
            position = (await client.api(f"STREAM.INFO.{SHOP.log_stream}"))["state"]["last_seq"]
            calm = calm + 1 if position == last and not await left(client) else 0
            last = position
            await asyncio.sleep(0.1)


async def left(client: Client) -> int:
    """How many commands and events wait to be taken, or to be acknowledged.

    What was in flight when a backup was made, or a process ended, is redelivered after half a
    minute.
    """
    commands: int = (await client.api(f"STREAM.INFO.{SHOP.command_stream}"))["state"]["messages"]
    found = (await client.api(f"CONSUMER.LIST.{SHOP.event_stream}"))["consumers"] or ()
    events: int = sum(each["num_pending"] + each["num_ack_pending"] for each in found)
    return commands + events


async def judge_streams(client: Client, count: int) -> None:
    """Judge the log and the event stream as they are."""
    judge(await raw(client, SHOP.log_stream), await raw(client, SHOP.event_stream), count)


def judge(log: list[Any], feed: list[Any], count: int) -> None:
    """Each order went its way once, and each event was published once, in order."""
    ways: dict[str, list[str]] = {}
    ids: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    purchases: Counter[str] = Counter()
    published: list[str] = []
    for message in log:
        headers = message.headers
        ids[headers["X-Event-ID"]] += 1
        versions[message.subject] += 1
        assert headers["X-Aggregate-Version"] == str(versions[message.subject])
        kind, aggregate = headers["X-Event-Type"], message.subject.split(".")
        if aggregate[2] == "order":
            ways.setdefault(aggregate[3], []).append(kind)
        if kind == "PurchaseRecorded":
            purchases[headers["X-Correlation-ID"]] += 1
        published.append(headers["X-Event-ID"])
    assert max(ids.values()) == 1
    assert [order for order, way in ways.items() if way != WAY] == []
    assert len(ways) == count
    assert sorted(purchases.values()) == [1] * count
    assert [message.headers["X-Event-ID"] for message in feed] == published


def judge_rows(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        orders = database.execute("SELECT id, status, amount FROM order_view").fetchall()
        sales = database.execute('SELECT "order", amount FROM sale').fetchall()
    names = {f"o{number}" for number in range(count)}
    assert sorted(orders) == sorted((name, "confirmed", 2) for name in names)
    assert sorted(sales) == sorted((name, 2) for name in names)


@asynccontextmanager
async def serving(
    code: Path, url: str, folder: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A service by the code of a release, when it is ready, stopped as an operator stops it.

    Inside the block it may be killed, or stopped earlier.
    """
    environ = {
        **os.environ,
        "PYTHONPATH": f"{code}:{code / 'examples' / 'shop'}",
        "EVENTSTORE_APP": "shop.app:app",
        "NATS_URL": url,
        "EVENTSTORE_DATABASE": "rows.sqlite",
        **settings,
    }
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eventstore", "serve"),
        cwd=folder,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    ready = asyncio.Event()
    lines: list[str] = []
    reading = asyncio.create_task(_read(service, lines, ready))
    try:
        async with asyncio.timeout(BOUND):
            await asyncio.wait(
                [asyncio.ensure_future(ready.wait()), reading],
                return_when=asyncio.FIRST_COMPLETED,
            )
        assert ready.is_set(), lines
        yield service
        if service.returncode is None:
            service.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(service.wait(), BOUND) in (0, -signal.SIGKILL), lines
    finally:
        if service.returncode is None:
            service.kill()
            await service.wait()
        await reading


async def _read(
    service: asyncio.subprocess.Process, lines: list[str], ready: asyncio.Event
) -> None:
    """Read all that a service prints, lest it waits for its reader."""
    assert service.stdout is not None
    async for line in service.stdout:
        lines.append(line.decode())
        if line.startswith(b"ready: "):
            ready.set()


async def until_applied(client: Client, folder: Path) -> None:
    """Wait until all rows are as of the end of the log."""
    position = await log_end(client, SHOP)
    with closing(sqlite3.connect(folder / "rows.sqlite")) as database:
        async with asyncio.timeout(BOUND):
            while True:
                (least,) = database.execute(
                    "SELECT min(position) FROM eventstore_projection"
                ).fetchone()
                if least >= position:
                    return
                await asyncio.sleep(0.1)
