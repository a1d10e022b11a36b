"""A cluster of three: started in parts, and with a server that is cut off from the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from eventstore.application.service import RunningApplication
from eventstore.config import Settings
from eventstore.errors import EventStoreError, JetStreamError, RequestTimeout
from eventstore.server.embedded import EmbeddedServer
from examples import bank
from tests.conftest import settings_for
from tests.integration.commanding import until
from tests.ports import free_ports
from tests.slow_routes import SlowRoutes

SERVERS = ("n0", "n1", "n2")
BOUND = 100.0


class Cluster:
    """Servers that are not started yet, and the routes between them."""

    def __init__(self, servers: dict[str, EmbeddedServer], routes: SlowRoutes) -> None:
        self.servers = servers
        self.routes = routes

    async def start(self, *names: str) -> None:
        await asyncio.gather(*(self.servers[name].start() for name in names))

    def server_of(self, service: RunningApplication) -> str:
        """The server that a service is connected to."""
        port = urlsplit(service.client.url).port
        return next(name for name, each in self.servers.items() if each.port == port)

    def settings(self, *names: str) -> Settings:
        """For a service that knows these servers, with three replicas of each stream."""
        url = ",".join(self.servers[name].url for name in names)
        settings = settings_for(url, "bank")
        return replace(settings, streams=replace(settings.streams, replicas=3))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        ports = dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True))
        routes = await stack.enter_async_context(SlowRoutes(ports))
        servers = {
            name: EmbeddedServer(
                tmp_path / name, extra_config=f"server_name: {name}\n{routes.config(name)}"
            )
            for name in SERVERS
        }
        for server in servers.values():
            stack.push_async_callback(server.stop)
        yield Cluster(servers, routes)


async def deposited(service: RunningApplication) -> bool:
    """Whether a command is carried out."""
    try:
        outcome = await service.execute(bank.Deposit(amount=1), "a", timeout=2)
    except EventStoreError:
        return False
    return outcome.status == "success"


async def test_a_quorum_is_waited_for_at_the_start(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.start("n0")
    settings = cluster.settings("n0")
    retry = replace(settings.nats.retry, leader_wait_ms=0)
    hasty = replace(settings, nats=replace(settings.nats, retry=retry))
    async with asyncio.timeout(BOUND):
        with pytest.raises((JetStreamError, RequestTimeout)):
            async with bank.app.running(hasty, directory=tmp_path):
                pass

        async def start_others() -> None:
            async def is_reported() -> bool:
                return "waiting for a leader" in caplog.text

            await until(is_reported, BOUND)
            await cluster.start("n1", "n2")

        with caplog.at_level(logging.WARNING):
            starting = asyncio.create_task(start_others())
            running = bank.app.running(settings, directory=tmp_path, projections=False)
            async with running as service:
                await starting
                assert await deposited(service)


async def test_a_server_that_is_cut_off_is_left_for_another(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with asyncio.timeout(BOUND):
        await cluster.start(*SERVERS)
        settings = cluster.settings(*SERVERS)
        running = bank.app.running(settings, directory=tmp_path, projections=False)
        async with running as service, AsyncExitStack() as cut:
            assert await deposited(service)
            urls = {each.url: name for name, each in cluster.servers.items()}
            own = next(name for url, name in urls.items() if url.endswith(service.client.url[-6:]))
            for other in set(SERVERS) - {own}:
                cut.enter_context(cluster.routes.held(own, other))
                cut.enter_context(cluster.routes.held(other, own))
            await until(lambda: deposited(service), BOUND)
            assert cluster.server_of(service) != own
