"""A server whose disk is full: health says so, until it is restarted with room."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from eventstore.application.service import RunningApplication
from eventstore.errors import RequestTimeout
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.storage_check import StorageCheck
from examples import bank
from tests.connection import settings_for

BOUND = 45.0
ROOM = "size=12m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("there is no mount")
    if subprocess.run([mount, "-t", "tmpfs", "-o", ROOM, "tmpfs", disk], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield disk
    finally:
        subprocess.run([unmount, "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Fill a file system with a file, and return that."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


@asynccontextmanager
async def serving(disk: Path) -> AsyncIterator[tuple[EmbeddedServer, RunningApplication]]:
    """A server whose data are on this disk, and a service that carries out commands there."""
    async with EmbeddedServer(disk / "nats") as server:
        settings = settings_for(server.url, "bank")
        running = bank.app.running(settings, projections=False, queries=False, feed=False)
        async with running as service:
            yield server, service


async def until_unanswered(send: Callable[[], Awaitable[object]]) -> None:
    """Send until there is no answer."""
    with suppress(RequestTimeout):
        while True:
            await send()


async def test_a_full_disk_is_reported_until_the_server_is_restarted(small_disk: Path) -> None:
    async with asyncio.timeout(BOUND), serving(small_disk) as (server, service):
        codec, client = service.domain.codec, service.client
        subjects, stream = codec.subjects, codec.subjects.command_stream
        specs = topology(subjects, service.settings.streams)
        check = StorageCheck(client, subjects, "bank", specs, interval=0.0)
        assert (await check()).status == "healthy"

        filling = fill(small_disk)
        await until_unanswered(lambda: service.execute(bank.Deposit(amount=1), "a", timeout=1))
        found = await check()
        assert found.status == "unhealthy"
        assert {stream, "KV_BANK_CONFIG"} <= {*found.facts["frozen"]}
        assert "no space left on device" in str(found.problem)

        filling.unlink()
        assert (await check()).status == "unhealthy"  # it stays frozen
        await server.restart()
        await client.wait_connected(BOUND)
        assert (await check()).status == "healthy"
        assert (await service.execute(bank.Deposit(amount=1), "a")).status == "success"


async def test_an_unanswered_append_is_reported(small_disk: Path) -> None:
    """The log refuses deletions, so that it cannot be asked."""
    async with asyncio.timeout(BOUND), serving(small_disk) as (_, service):
        subjects = service.domain.codec.subjects
        fill(small_disk)
        await until_unanswered(
            lambda: publish_acked(service.client, "bank.log.account.a", bytes(4096), timeout=1)
        )
        specs = topology(subjects, service.settings.streams)
        found = await StorageCheck(service.client, subjects, "bank", specs)()
        assert subjects.log_stream in found.facts["frozen"]
