"""Fixtures of the tests in a real browser, which only `make test-console` runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.running import CHROMIUM, RunningShop, running_shop

collect_ignore_glob = [] if os.environ.get("BROWSER") else ["test_*.py"]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A shop that has sold something, and its console."""
    with running_shop(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's browser."""
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is not there: apt-get install chromium, or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, shop: RunningShop) -> Iterator[Any]:
    """A page of a new visitor, in which no script fails and nothing breaks the policy."""
    context = chromium.new_context(base_url=shop.url)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: errors.append(f"a dialog says {dialog.message}"))
    yield page
    context.close()
    assert [each for each in errors if "Failed to load resource" not in each] == []
