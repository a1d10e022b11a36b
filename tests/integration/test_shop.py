"""The shop of the examples, as its users have it: by command line, and as a web application."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from eventstore import Send
from eventstore.config import Settings
from eventstore.processes.testing import scenario
from eventstore.projections.database import include_name
from tests.connection import settings_for
from tests.integration.command_line import BOUND, ROOT, CommandLine

ORDER = {"customer": "ann", "article": "tea", "quantity": 2}
ORDER |= {"price": {"amount": 350, "currency": "EUR"}}
FIRST = "3f1d6c5a-94a1-4d3e-8d0b-6b1f6a2f0c11"
"""The id of the command that places the first order."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of its own, with nothing else in it."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__", "var")
    shutil.copytree(ROOT / "examples" / "shop", folder, ignore=ignored, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[CommandLine]:
    """A running shop that sold some tea, and could not sell more."""
    cli = CommandLine(folder, EVENTSTORE_APP="shop.app:app")
    with cli.serving() as running:
        sent(cli, "customer.register", "ann", {"name": "Ann"})
        sent(cli, "stock.receive", "tea", {"quantity": 3})
        sent(cli, "order.place", "o-1", ORDER, "--command-id", FIRST)
        sent(cli, "order.pay", "o-1", {}, "--actor", "ann")
        reached(cli, "o-1", "confirmed")
        sent(cli, "order.place", "o-2", ORDER)
        reached(cli, "o-2", "cancelled")
        yield cli
        assert running.stopped().status == 0


def sent(
    cli: CommandLine, command: str, aggregate_id: str, data: dict[str, Any], *more: str
) -> None:
    words = (f"shop.cmd.{command}", "--id", aggregate_id, "--data", json.dumps(data))
    ended = cli.call("send", *words, *more)
    assert ended.status == 0, ended


def reached(cli: CommandLine, order: str, status: str) -> None:
    """The saga has led the order to this status, in time."""
    deadline = time.monotonic() + BOUND
    while True:
        shown = cli.call("query", "order", "get", order, "--json")
        if shown.status == 0 and json.loads(shown.out)["status"] == status:
            return
        assert time.monotonic() < deadline, shown


def test_the_saga_is_shown_as_one_tree_of_causes(shop: CommandLine) -> None:
    shown = shop.call("audit", "trace", FIRST)
    assert shown.status == 0, shown
    steps = ["PlaceOrder", "OrderPlaced", "FulfilmentReacted", "ReserveStock", "StockReserved"]
    places = [shown.out.find(step) for step in steps]
    assert -1 not in places, shown.out
    assert places == sorted(places), shown.out


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("query order get o-2", "only 1 in stock"),
        ("query order list --status confirmed", "o-1"),
        ("query sales daily", "700"),
        ("projection list", "sales"),
        ("subscriber list", "fulfilment"),
        ("process list", "o-1"),
        ("process list --status ended --json", '"key":"o-2"'),
        ("process show fulfilment o-1", "ends"),
        ("process show fulfilment o-1", "sets the timer order-expire"),
        ("process show fulfilment o-2", "sends order.cancel to o-2"),
        ("audit history customer ann", "PurchaseRecorded"),
        ("migrate --check --database var/read_model.sqlite", "0001"),
        ("health", "healthy shop 1.0.0"),
    ],
)
def test_the_command_line_is_the_shops(shop: CommandLine, words: str, shown: str) -> None:
    ended = shop.call(*words.split())
    assert ended.status == 0, ended
    assert shown in ended.out


def test_its_migrations_make_the_tables_that_its_projections_declare(
    shop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(shop.folder))
    declared = importlib.import_module("shop.tables").metadata
    engine = create_engine(f"sqlite:///{shop.folder}/var/read_model.sqlite")
    with engine.connect() as connection:
        options = {"include_name": include_name, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, declared) == []
    engine.dispose()


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shop's modules can be imported."""
    monkeypatch.syspath_prepend(str(folder))
    yield
    for name in [each for each in sys.modules if each.partition(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.mark.usefixtures("project")
async def test_the_stock_of_an_order_that_is_cancelled_by_hand_is_released(
    settings: Settings, tmp_path: Path
) -> None:
    app = importlib.import_module("shop.app").app
    order, stock = (importlib.import_module(f"shop.{each}") for each in ("order", "stock"))
    assert settings.nats.subject_prefix is not None
    own = settings_for(settings.nats.url[0], settings.nats.subject_prefix).in_directory(tmp_path)
    without = {"projections": False, "queries": False}
    async with asyncio.timeout(BOUND):
        async with app.running(own, subscribers=False, **without) as shop:
            await shop.execute(stock.ReceiveStock(quantity=3), "tea")
            await shop.execute(msgspec.convert(ORDER, order.PlaceOrder), "o")
            await shop.execute(order.CancelOrder(reason="changed my mind"), "o")
        async with app.running(own, **without) as shop:
            async for event in shop.store.read_all(live=True):
                if isinstance(event.data, stock.StockReleased):
                    break
            assert await shop.load("stock", "tea", leader=True) == stock.Stock(available=3)


@pytest.mark.usefixtures("project")
def test_an_order_that_is_not_paid_in_a_quarter_of_an_hour_is_cancelled() -> None:
    order, stock, own = (
        importlib.import_module(f"shop.{each}") for each in ("order", "stock", "fulfilment")
    )
    command = msgspec.convert(ORDER, order.PlaceOrder)
    placed = order.place(order.Order(), command)
    reserved = stock.StockReserved(order="o-1", quantity=2)
    waiting = scenario(own.fulfilment).given("o-1", placed).given("tea", reserved)
    waiting.later(minutes=14).then_nothing()
    expired = waiting.later(minutes=15).then(Send(order.ExpireOrder(), "o-1"))
    released = Send(stock.ReleaseStock(order="o-1"), "tea")
    expired.when("o-1", order.OrderCancelled(reason="not paid in time")).then(released)
    paid = waiting.when("o-1", order.OrderPaid()).then(order.ConfirmOrder())
    paid.later(days=1).then_nothing()


@pytest.fixture
async def browser(
    project: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the web application, which runs the shop in this process."""
    for name in ("NATS_URL", "EVENTSTORE_CONFIG", "EVENTSTORE_APP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    web = importlib.import_module("shop.web").web
    transport = httpx.ASGITransport(web)
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield client


async def test_an_order_is_placed_once_and_read_back_at_once(browser: httpx.AsyncClient) -> None:
    async with asyncio.timeout(BOUND):
        shop, stock = (importlib.import_module(f"shop.{each}") for each in ("web", "stock"))
        await shop.web.state.shop.execute(stock.ReceiveStock(quantity=9), "tea")
        key = {"Idempotency-Key": "a browser's own key"}
        placed = await browser.post("/orders", json=ORDER, headers=key)
        assert placed.status_code == 201, placed.text
        shown = await browser.get(placed.headers["Location"])
        assert (shown.status_code, shown.json()["amount"]) == (200, 700)

        paid = await browser.post(f"/orders/{placed.json()['id']}/payment")
        assert paid.status_code == 204
        assert (await browser.post("/orders/none/payment")).status_code == 409

        repeated = await browser.post("/orders", json=ORDER, headers=key)
        assert (repeated.status_code, repeated.json()) == (201, placed.json())
        other = await browser.post("/orders", json=ORDER | {"quantity": 3}, headers=key)
        assert other.status_code == 422
        assert other.json()["detail"]["code"] == "command_id_reused"


async def test_the_page_quotes_the_ids_that_follow_from_a_key(browser: httpx.AsyncClient) -> None:
    keys = importlib.import_module("shop.web").KEYS
    page = (ROOT / "docs" / "shop.md").read_text(encoding="utf-8")
    async with asyncio.timeout(BOUND):
        placed = await browser.post("/orders", json=ORDER, headers={"Idempotency-Key": "1"})
    assert f'{{"id":"{placed.json()["id"]}","position":' in page
    assert f"correlation {uuid.uuid5(keys, '1')}" in page
    assert json.dumps(ORDER) in page


async def test_what_cannot_be_done_has_the_status_that_says_so(browser: httpx.AsyncClient) -> None:
    async with asyncio.timeout(BOUND):
        key = {"Idempotency-Key": "2"}
        large = ORDER | {"quantity": 10_000}
        rejected = await browser.post("/orders", json=large, headers=key)
        assert rejected.status_code == 409
        assert rejected.json()["detail"]["code"] == "too_large"
        assert (await browser.get("/orders/nothing")).status_code == 404
        assert (await browser.post("/orders", json=ORDER)).status_code == 422, "without a key"
        for wrong in ({"quantity": 0}, {"article": "no id"}):
            refused = await browser.post("/orders", json=ORDER | wrong, headers=key)
            assert refused.status_code == 422, wrong
