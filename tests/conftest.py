"""Fixtures that every test may use: a real nats-server, settings for it, a client, a domain."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from eventstore.client import Client, connect
from eventstore.config import NatsSettings, RetrySettings, Settings
from eventstore.server import EmbeddedServer

StartServer = Callable[..., Awaitable[EmbeddedServer]]


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One server shared by all tests; keep apart by `domain_name`, and never stop it."""
    server = EmbeddedServer(tmp_path_factory.mktemp("nats"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Start a server of the test's own: `await start_server(max_payload=...)`."""
    async with AsyncExitStack() as running:
        names = iter(range(1_000))

        async def start(**options: Any) -> EmbeddedServer:
            directory = options.pop("data_directory", tmp_path / f"nats{next(names)}")
            return await running.enter_async_context(EmbeddedServer(directory, **options))

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> EmbeddedServer:
    """A server of the test's own, to stop, kill and restart as it likes."""
    return await start_server()


@pytest.fixture
def domain_name() -> str:
    """A domain, and so a prefix of subjects and streams, that no other test has."""
    return f"t{secrets.token_hex(4)}"


def settings_for(url: str, domain: str = "nix", **nats: Any) -> Settings:
    """Settings for the server at `url`, impatient enough for a test."""
    retry = RetrySettings(
        reconnect_delay_ms=10,
        max_reconnect_delay_ms=100,
        reconnect_jitter_ms=1,
        connect_timeout_ms=2_000,
    )
    return Settings(
        nats=NatsSettings(**{"subject_prefix": domain, "retry": retry, **nats})
    ).with_url(url)


@pytest.fixture
def settings(nats_server: EmbeddedServer, domain_name: str) -> Settings:
    """Settings for the shared server, with the test's own domain."""
    return settings_for(nats_server.url, domain_name)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of the shared server."""
    async with connect(settings) as client:
        yield client
