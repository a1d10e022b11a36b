"""Visits to a console over ASGI, as a browser makes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from msgspec import Struct
from msgspec.structs import replace

from eventstore import Application
from eventstore.application.service import RunningApplication
from eventstore.config import ConsoleSettings, Settings
from eventstore.console import Console

BOUND = 45.0
EVERYTHING = ConsoleSettings(operators=("*",), personal=("*",))


class RunningService(Struct):
    """A running application, and its settings as a console for some visitors has them."""

    app: Application
    settings: Settings
    service: RunningApplication

    def settings_of(self, console: ConsoleSettings) -> Settings:
        return replace(self.settings, console=console)


async def until(count: Callable[[], Any], wanted: object) -> None:
    async with asyncio.timeout(BOUND):
        while await count() != wanted:  # noqa: ASYNC110  # the server tells only when asked
            await asyncio.sleep(0.02)


@asynccontextmanager
async def visiting(
    running: RunningService, console: ConsoleSettings = EVERYTHING, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, as it were, of a console with these settings."""
    options = {"is_local": True, **options}
    made = Console(running.app, running.settings_of(console), **options)
    async with made, asyncio.timeout(BOUND):
        await made.connected()
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def text_of(answer: httpx.Response) -> str:
    """What a person reads."""
    body = answer.text[answer.text.index("<main") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


async def confirmed(browser: httpx.AsyncClient, path: str) -> httpx.Response:
    """Ask, and confirm; returns the page that follows."""
    asked = await browser.get(path)
    assert asked.status_code == 200, text_of(asked)
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', asked.text)
    assert token is not None
    return await browser.post(path, data={"form_token": token[1]}, follow_redirects=True)
