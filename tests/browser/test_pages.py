"""The console in a real browser: what people do, with keyboard, narrow, dark and without script."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from eventstore.server.binary import find_server
from tests.browser.pictures import PAGES
from tests.browser.running import RunningShop, console_words, run_beside, started
from tests.browser.shop import FIRST, SHOWN, sell
from tests.ports import free_ports

OTHERS = {
    "aggregates": "/aggregates",
    "parked message": "/parked/1",
    "hostile": "/aggregates/customer/mallory",
    "event": "/events/1",
    "not found": "/nothing",
}
EVERY = [*PAGES.values(), *OTHERS.values()]
SECONDS = 30_000  # milliseconds, on a busy machine
NARROW = {"width": 320, "height": 640}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", EVERY)
def test_axe_finds_nothing_serious(page: Any, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(path)
    found = Axe().run(page).response["violations"]

    assert [
        (each["id"], each["impact"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"])
        for each in found
        if each["impact"] in ("serious", "critical")
    ] == []


@pytest.mark.parametrize("path", EVERY)
def test_nothing_is_wider_than_a_narrow_screen(page: Any, path: str) -> None:
    page.set_viewport_size(NARROW)
    page.goto(path)

    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.parametrize("path", EVERY)
def test_every_page_says_the_same_without_script(
    chromium: Any, shop: RunningShop, path: str
) -> None:
    context = chromium.new_context(base_url=shop.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(path)
    shown = page.locator("main h1").inner_text()
    rows = page.locator("main tbody tr").count()
    context.close()

    assert shown
    assert rows > 0 or page is not None


def test_a_story_is_found_by_its_actor_and_opened_with_the_keyboard(page: Any) -> None:
    page.goto("/stories")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.get_by_label("Actor").focus()
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    page.wait_for_url("**/stories?*actor=ann*")
    link = page.get_by_role("link", name="PlaceOrder").first
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/stories/*-*")

    expect(page.locator(".tree article").first).to_contain_text("PlaceOrder")
    expect(page.locator(".tree article")).to_have_count(14)
    deepest = page.locator(".tree article", has_text="PurchaseRecorded")
    assert (
        deepest.evaluate(
            "each => { let n = 0; while (each = each.parentElement.closest('ul')) n++; return n }"
        )
        == 13
    )


def test_the_slider_shows_the_state_at_a_version(page: Any) -> None:
    page.goto("/aggregates/order/o-1")
    page.get_by_label("Version", exact=False).first.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**at=1*", timeout=SECONDS)

    expect(page.get_by_role("heading", name="State at version 1")).to_be_visible()
    expect(page.locator("pre")).to_contain_text('"paid": false')


def test_the_form_shows_the_state_without_script(chromium: Any, shop: RunningShop) -> None:
    context = chromium.new_context(base_url=shop.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/aggregates/order/o-1")
    page.get_by_label("Version, as a number").fill("1")
    page.get_by_role("button", name="Go").click()
    page.wait_for_url("**at=1*")
    shown = page.locator("pre").inner_text()
    context.close()

    assert '"paid": false' in shown


def test_hostile_texts_are_texts(page: Any) -> None:
    page.goto("/aggregates/customer/mallory")
    expect(page.locator("main")).to_contain_text("\\u202emallory")
    expect(page.locator("pre")).to_contain_text("<script>alert(1)</script>")
    assert "\\u202egpj" in SHOWN
    assert page.locator("main script, main img").count() == 0
    page.goto("/parked/2")
    expect(page.locator("pre")).to_contain_text("<img src=x onerror=alert(2)>")


def test_ids_are_copied(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/stories/{FIRST}")
    page.locator(".whole .copy").click()

    expect(page.locator(".whole .copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == FIRST


def test_live_events_come_and_pause_while_nobody_looks(page: Any, shop: RunningShop) -> None:
    page.goto("/live?aggregate=stock")
    expect(page.locator("#live-state")).to_have_text("live", timeout=SECONDS)
    run_beside(sell(shop.nats_url, "live-1"))
    expect(page.locator("#live-rows tr.new")).to_have_count(1, timeout=SECONDS)
    hide(page, hidden=True)
    expect(page.locator("#live-state")).to_have_text("paused")
    run_beside(sell(shop.nats_url, "live-2"))
    assert page.locator("#live-rows tr.new").count() == 1
    hide(page, hidden=False)
    expect(page.locator("#live-state")).to_have_text("live", timeout=SECONDS)
    run_beside(sell(shop.nats_url, "live-3"))
    expect(page.locator("#live-rows tr.new")).to_have_count(2, timeout=SECONDS)


def hide(page: Any, *, hidden: bool) -> None:
    """Have the page believe that another tab is in front of it."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_the_overview_is_brought_up_to_date(page: Any, shop: RunningShop) -> None:
    page.goto("/")
    figure = page.locator(".figure strong").first
    before = figure.inner_text()
    run_beside(sell(shop.nats_url, "fresh"))

    expect(figure).not_to_have_text(before, timeout=SECONDS)


def test_a_parked_message_is_discarded_after_a_question(page: Any) -> None:
    page.goto("/parked")
    page.get_by_role("link", name=re.compile("Discard.*1")).click()
    expect(page.get_by_role("heading")).to_have_text("Discard parked message 1?")
    page.get_by_role("link", name="Back").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto("/act/parked-discard?number=1")
    page.get_by_role("button", name="Discard").click()

    expect(page.get_by_role("status").filter(has_text="was discarded")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Actions").click()
    cells = page.locator("tbody tr").first.locator("th, td")
    expect(cells).to_have_text([re.compile(":"), "local", "parked-discard", "1", "done"])


def test_a_projection_is_rebuilt(page: Any) -> None:
    page.goto("/projections/orders")
    page.get_by_role("link", name="Rebuild").click()
    page.get_by_role("button", name="Rebuild").click()

    expect(page.get_by_role("status").filter(has_text="was requested")).to_be_visible()


def test_a_page_comes_back_by_itself_with_its_server(chromium: Any, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    nats_url = f"nats://127.0.0.1:{port}"
    server = [
        str(find_server(None).path),
        "-js",
        "-a",
        "127.0.0.1",
        "-p",
        str(port),
        "-sd",
        str(tmp_path),
    ]
    with started(tmp_path, *console_words(nats_url)) as line:
        context = chromium.new_context(base_url=line.removeprefix("console: "))
        page = context.new_page()
        page.goto("/stories")
        expect(page.get_by_role("heading", name="Not reachable")).to_be_visible()
        with subprocess.Popen(server, stderr=subprocess.DEVNULL) as process:
            with started(tmp_path, "serve", "--nats-url", nats_url):
                expect(page.get_by_role("heading", name="Stories")).to_be_visible(timeout=SECONDS)
                page.goto("/")
                expect(page.locator(".lead .badge")).to_have_text("healthy", timeout=SECONDS)
            process.kill()
        expect(page.get_by_text("Not reachable")).to_be_visible(timeout=SECONDS)
        context.close()
