"""The system that is checked: servers, services that share a read model, and links to break.

Each process of a service or a client reaches each server through a proxy of its own, and the
servers of a cluster reach each other through one, too. A service that ends is started again, as
its supervisor in production would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Self

from nats.aio.client import Client as Nats

from eventstore.server.embedded import EmbeddedServer
from tests import debian
from tests.fault.checker.disk import Disk
from tests.ports import free_ports
from tests.proxy import TcpProxy
from tests.slow_routes import SlowRoutes

ROOT = Path(__file__).parents[3]
DOMAIN = "ledger"
FAKETIME = debian.file("usr/lib/*/faketime/libfaketime.so.1")

_ACCOUNTS = """
accounts { APP { jetstream: enabled, users: [{user: app, password: app}] } }
no_auth_user: app
"""
_READY_SECONDS = 60.0
_STOP_SECONDS = 40.0
_RESTART_SECONDS = 0.5


class Shape(NamedTuple):
    """How large a system is, and what it is run with."""

    servers: int = 1
    services: int = 1
    processes: int = 1
    clients: int = 2
    duplicate_window_ms: int = 2_000
    small_disks: bool = True
    fake_time: bool = True
    state_cache_mb: int = 64


class Service:
    """A process of the service, started again whenever it ends; `restarts` counts that."""

    def __init__(self, name: str, directory: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.restarts = 0
        self.pid: int | None = None
        self._directory = directory
        self.environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, wait: bool = True) -> None:
        """Keep it running from now on; returns when it is ready."""
        self._wanted = True
        self._task = asyncio.create_task(self._supervise())
        if wait:
            await self.until_ready()

    async def until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Return when it has said so."""
        await asyncio.wait_for(self._ready.wait(), seconds)

    async def stop(self) -> bool:
        """End it for good, by SIGTERM; returns whether that was enough."""
        self._wanted = False
        if self._task is None:
            return True
        self.signal(signal.SIGTERM)
        ended, _ = await asyncio.wait([self._task], timeout=_STOP_SECONDS)
        self.signal(signal.SIGKILL)
        await self._task
        self._task = None
        return bool(ended)

    def signal(self, number: int) -> None:
        """Send a signal to it and its second process, if they run."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _supervise(self) -> None:
        while self._wanted:
            await self._run_once()
            if self._wanted:
                self.restarts += 1
                await asyncio.sleep(_RESTART_SECONDS)

    async def _run_once(self) -> None:
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "eventstore", "serve"),
                cwd=self._directory,
                env=self.environ,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a signal to its group is for its second process, too
            )
        self.pid = process.pid
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                if line.startswith(b"ready: "):
                    self._ready.set()
            await process.wait()
        finally:
            self._ready.clear()
            with suppress(ProcessLookupError):
                process.kill()
            self.pid = None


class System:
    """Servers, services and links; an async context manager that ends all of them."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        self.shape = shape
        self.directory = directory
        self.servers: list[EmbeddedServer] = []
        self.services: list[Service] = []
        self.routes: SlowRoutes | None = None
        self.links: dict[str, list[TcpProxy]] = {}
        self.disks: dict[str, Disk] = {}
        self.missing: dict[str, str] = {}
        self.clock = directory / "clock"
        self._stack = AsyncExitStack()

    @property
    def database(self) -> Path:
        """The file of the read model that all services share."""
        return self.directory / "read_model" / "read_model.sqlite"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self.clock.write_text("+0\n")
        for name in ("server0", "read_model"):
            (self.directory / name).mkdir()
            self._mount(name)
        await self._start_servers()
        for number in range(self.shape.services):
            name = f"service{number}"
            service = Service(name, self.directory, await self._environ(name))
            self._stack.push_async_callback(service.stop)
            self.services.append(service)
        await asyncio.gather(*(service.start() for service in self.services))

    def _mount(self, name: str) -> None:
        if not self.shape.small_disks:
            self.missing["disk"] = "not asked for"
            return
        disk = Disk(self.directory / name)
        try:
            self._stack.enter_context(disk)
        except OSError as error:
            self.missing["disk"] = f"a small file system cannot be mounted: {error}"
        else:
            self.disks[name] = disk

    async def _start_servers(self) -> None:
        count = self.shape.servers
        names = [f"n{number}" for number in range(count)]
        if count > 1:
            ports = dict(zip(names, free_ports(count), strict=True))
            self.routes = await self._stack.enter_async_context(SlowRoutes(ports))
        for number, name in enumerate(names):
            server = EmbeddedServer(
                self.directory / f"server{number}",
                extra_config=f"server_name: {name}\n{_ACCOUNTS}{self._cluster(name)}",
                jetstream_config="max_file_store: 4GB",  # not what a small disk has
                start_timeout=30.0,
            )
            self._stack.push_async_callback(server.stop)
            self.servers.append(server)
        await asyncio.gather(*(server.start() for server in self.servers))

    def _cluster(self, name: str) -> str:
        if self.routes is None:
            return ""
        # Clients must not learn of addresses that are not their links.
        return self.routes.config(name).replace("cluster {", "cluster { no_advertise: true,")

    async def urls(self, participant: str) -> str:
        """Where a participant reaches the servers, through links of its own."""
        links = [
            await self._stack.enter_async_context(TcpProxy(server.port)) for server in self.servers
        ]
        self.links[participant] = links
        return ",".join(link.url for link in links)

    async def _environ(self, name: str) -> dict[str, str]:
        shape = self.shape
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "EVENTSTORE_APP": "tests.fault.checker.bank:app",
            "NATS_URL": await self.urls(name),
            "EVENTSTORE_DATABASE": str(self.database),
            "EVENTSTORE_PROCESSES": str(shape.processes),
            "EVENTSTORE_STREAMS_REPLICAS": str(shape.servers),
            "EVENTSTORE_STREAMS_DUPLICATE_WINDOW_MS": str(shape.duplicate_window_ms),
            "EVENTSTORE_OPERATIONS_STATE_CACHE_MB": str(shape.state_cache_mb),
            "EVENTSTORE_NATS_RETRY_RECONNECT_DELAY_MS": "50",
            "EVENTSTORE_NATS_RETRY_MAX_RECONNECT_DELAY_MS": "500",
        }
        return environ | self._fake_time()

    def _fake_time(self) -> dict[str, str]:
        if not self.shape.fake_time or FAKETIME is None:
            why = "libfaketime is not there: make debian"
            self.missing["clock"] = why if self.shape.fake_time else "not asked for"
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # which has waiting threads spin
            "NO_FAKE_STAT": "1",
        }

    async def connect(self, server: int = 0) -> Nats:
        """A plain client of a server, past all links."""
        client = Nats()
        url = f"nats://127.0.0.1:{self.servers[server].port}"
        await client.connect(url, allow_reconnect=False, connect_timeout=5)
        return client

    async def run(self, *words: str) -> asyncio.subprocess.Process:
        """Start a subcommand as the operator of the first service would."""
        with (self.directory / "operator.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "eventstore", *words),
                cwd=self.directory,
                env=self.services[0].environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
