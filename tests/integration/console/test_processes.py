"""Processes in the console: listed, shown, and retried by who may."""

from __future__ import annotations

import asyncio
import importlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from eventstore.actions import ListActions
from eventstore.config import ConsoleSettings
from eventstore.processes import GetProcess, ListProcesses
from eventstore.server.embedded import EmbeddedServer
from tests.connection import settings_for
from tests.integration.console.visits import (
    BOUND,
    RunningService,
    confirmed,
    text_of,
    until,
    visiting,
)
from tests.integration.tower import Ring, tower

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def broken() -> asyncio.Event:
    """Set while the bell is broken."""
    return asyncio.Event()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_tower(
    nats_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory, broken: asyncio.Event
) -> AsyncIterator[RunningService]:
    """A tower in which `a` has rung, and `b` when the bell was broken."""
    app = tower(f"t{secrets.token_hex(4)}", broken.is_set)
    settings = settings_for(nats_server.url, app.name)
    async with app.running(settings, directory=tmp_path_factory.mktemp("tower")) as service:
        running = RunningService(app, settings, service)
        await service.execute(Ring(), "a")
        await until(lambda: statuses(running), {"a": ("running", 2)})
        broken.set()
        await service.execute(Ring(), "b")
        await until(lambda: statuses(running), {"a": ("running", 2), "b": ("failed", 0)})
        broken.clear()
        yield running


async def statuses(running: RunningService) -> dict[str, Any]:
    found = (await running.service.ask(ListProcesses())).items
    return {each.key: (each.status, each.reactions) for each in found}


async def test_they_are_listed_and_shown(running_tower: RunningService) -> None:
    async with visiting(running_tower) as browser:
        listed = text_of(await browser.get("/processes"))
        failed = text_of(await browser.get("/processes?process=ringing&status=failed"))
        whole = await browser.get("/processes/ringing/b")
        other = text_of(await browser.get("/processes/ringing/a"))
        events = await browser.get("/aggregates/ringing/a")

    assert "ringing b failed" in listed
    assert "ringing a running" in listed
    assert "ringing b failed" in failed
    assert "ringing a" not in failed
    assert "failed handler_failed: &lt;b&gt;the bell is broken" in text_of(whole)
    assert 'href="/parked/1"' in whole.text
    assert "sends bell.rest to a" in other
    assert "Retry" not in other
    assert (events.status_code, events.text.count("RingingReacted")) == (200, 2)


async def test_a_page_goes_on_where_the_one_before_has_ended(
    running_tower: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.console.pages.processes.PAGE", 1)
    first = await running_tower.service.ask(ListProcesses(limit=1))
    async with visiting(running_tower) as browser:
        listed = text_of(await browser.get("/processes"))
        path = f"/processes?process=ringing&before={first.items[0].position}"
        earlier = text_of(await browser.get(path))

    assert ("ringing b" in listed, "ringing a" in listed) == (True, False)
    assert "Earlier ringing" in listed
    assert ("ringing b" in earlier, "ringing a" in earlier) == (False, True)


async def test_the_last_steps_are_shown(running_tower: RunningService) -> None:
    found = await running_tower.service.ask(GetProcess(process="ringing", key="a", limit=1))
    assert ([each.trigger for each in found.steps], found.earlier) == (["Rested"], 1)


async def test_who_only_looks_cannot_retry(running_tower: RunningService) -> None:
    path = "/act/process-retry?name=ringing/b"
    async with visiting(running_tower, ConsoleSettings()) as browser:
        shown = await browser.get("/processes/ringing/b")
        refused = await browser.get(path)
    assert "process-retry" not in shown.text
    assert refused.status_code == 403


async def test_a_failed_one_is_retried_and_that_is_recorded(
    running_tower: RunningService, broken: asyncio.Event
) -> None:
    async with visiting(running_tower) as browser:
        missing = await confirmed(browser, "/act/process-retry?name=ringing/none")
        broken.set()
        again = text_of(await confirmed(browser, "/act/process-retry?name=ringing/b"))
        broken.clear()
        done = text_of(await confirmed(browser, "/act/process-retry?name=ringing/b"))
    assert missing.status_code == 404
    assert "0 reacted to, 1 left" in again
    assert "1 reacted to, 0 left" in done
    await until(lambda: statuses(running_tower), {"a": ("running", 2), "b": ("running", 2)})
    recorded = (await running_tower.service.ask(ListActions(actor="local"))).items
    assert [(each.action, each.target, each.status, each.code) for each in recorded] == [
        ("process-retry", "ringing/b", "done", None),
        ("process-retry", "ringing/b", "done", None),
        ("process-retry", "ringing/none", "failed", "not_found"),
    ]


async def test_a_state_from_a_snapshot_says_what_is_checked(
    running_tower: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running_tower.service.snapshots is not None
    await running_tower.service.snapshots.drain(BOUND)
    module = importlib.import_module("eventstore.audit.aggregate_history")
    monkeypatch.setattr(module, "_NEAR", 0)
    async with visiting(running_tower) as browser:
        newest = text_of(await browser.get("/aggregates/bell/a?read=more"))
        first = text_of(await browser.get("/aggregates/bell/a?at=1&read=more"))
        whole = text_of(await browser.get("/aggregates/bell/a?read=all"))

    assert "State at version 2" in newest
    assert "Version 2 Chain verified 2 events" in newest
    assert "was 1" not in newest
    assert "earlier" not in newest
    assert "State at version 1" in first
    assert "checked in part" in first
    assert "check all" in first
    assert "is 1" in first
    assert "verified 2 events" in whole
    assert "was 1" in whole
