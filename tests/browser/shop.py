"""A shop with something to see: stories, rejections, timers, what is parked, and hostile texts."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventstore import Application, Identity, load_settings
from eventstore.audit import AuditEntry, SearchAudit
from eventstore.console.actions import Target, carry_out
from eventstore.console.source import Source
from eventstore.errors import NoTimer
from eventstore.messages.text import printable

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"

FIRST = "3f1d6c5a-94a1-4d3e-8d0b-6b1f6a2f0c11"
"""The id of the command that places the first order."""

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m\u202egpj.exe"
"""A name as no customer has it."""

SHOWN = printable(HOSTILE)
LARGE = 900_000
_BOUND = 60.0
_ORDERS = 14


def application() -> Application:
    """The shop of the examples."""
    if str(SHOP) not in sys.path:
        sys.path.insert(0, str(SHOP))
    app: Application = importlib.import_module("shop.app").app
    return app


async def fill(url: str) -> None:
    """Have the shop at a server sell something; returns when its index reflects that."""
    app = application()
    customer, stock, order, money = (
        importlib.import_module(f"shop.{name}") for name in ("customer", "stock", "order", "money")
    )
    price = money.Money(amount=350, currency="EUR")
    async with app.client(load_settings(environ={}, nats_url=url)) as shop:

        async def done(command: Any, own: str, **options: Any) -> Any:
            return await shop.execute(command, own, timeout=_BOUND, **options)

        def placed(article: str, quantity: int = 2, who: str = "ann") -> Any:
            return order.PlaceOrder(customer=who, article=article, quantity=quantity, price=price)

        await done(customer.RegisterCustomer(name="Ann"), "ann")
        await done(customer.RegisterCustomer(name=HOSTILE), "mallory", actor="\u202emallory")
        await done(customer.RegisterCustomer(name="x" * LARGE), "large")
        for article, quantity in (("tea", 30), ("coffee", 5)):
            await done(stock.ReceiveStock(quantity=quantity), article, actor="warehouse")
        await done(placed("tea"), "o-1", command_id=FIRST, actor="ann")
        reserved = await _appears(shop, SearchAudit(type="StockReserved", correlation_id=FIRST))
        cause = Identity(reserved[0].id, FIRST, FIRST)
        await done(order.PayOrder(), "o-1", actor="ann", cause=cause)
        await done(placed("coffee", 9), "o-2", actor="bob")
        await done(placed("tea"), "o-1", actor="bob")
        for number in range(3, _ORDERS):
            await done(placed("tea", who="bob"), f"o-{number}", actor="bob")
        for number in range(3, 9):
            await done(order.PayOrder(), f"o-{number}", actor="bob")
        for own, payload in (("o-90", b'{"customer": 1}'), ("o-91", f'{{"a": "{HOSTILE}'.encode())):
            headers = {"X-Aggregate-ID": own, "X-Actor": "mallory"}
            await shop.client.request("shop.cmd.order.place", payload, headers=headers)
        await _indexed(shop)
        await _administer(shop)


async def _administer(shop: Any) -> None:
    """Have administrators do something, of which one thing fails."""
    source = Source(shop.client, shop.domain)
    for action, name, actor in (
        ("projection-pause", "sales", "ann"),
        ("projection-resume", "sales", "ann"),
        ("timer-cancel", "reminder", HOSTILE),
        ("projection-rebuild", "orders", "bob"),
    ):
        with suppress(NoTimer):
            await carry_out(source, action, Target(name, 0, actor))


async def sell(url: str, article: str) -> None:
    """Have the shop receive some of an article."""
    app = application()
    receive = importlib.import_module("shop.stock").ReceiveStock(quantity=1)
    async with app.client(load_settings(environ={}, nats_url=url)) as shop:
        await shop.execute(receive, article, timeout=_BOUND)


async def _indexed(shop: Any) -> None:
    """Return when the saga has ended, the index has all, and the broken commands are parked."""
    await _appears(shop, SearchAudit(type="CustomerRegistered"), 3)
    await _appears(shop, SearchAudit(type="RecordPurchase"), 7)
    deadline = time.monotonic() + _BOUND
    while len([each async for each in _parked(shop)]) < 2:
        assert time.monotonic() < deadline, "the broken commands are not parked"
        await asyncio.sleep(0.1)


async def _appears(shop: Any, query: SearchAudit, count: int = 1) -> list[AuditEntry]:
    """Return what is asked for when the index has so many of it."""
    deadline = time.monotonic() + _BOUND
    found: list[AuditEntry] = []
    while len(found) < count:
        assert time.monotonic() < deadline, f"{query} finds too little"
        await asyncio.sleep(0.1)
        found = (await shop.ask(query)).items
    return found


def _parked(shop: Any) -> Any:
    from eventstore.parking import ParkedMessages

    return ParkedMessages(shop.client, shop.domain.codec.subjects).read()
