"""The console's own web server, on the machine's own address unless there are logins."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from eventstore.application.components import running
from eventstore.application.declaration import Declaration
from eventstore.config import Settings
from eventstore.config.settings import ConsoleSettings
from eventstore.console.console import Console
from eventstore.console.security import host_of
from eventstore.errors import ConfigurationError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_END_SECONDS = 3


@asynccontextmanager
async def serve_console(app: Declaration, settings: Settings) -> AsyncIterator[str]:
    """Serve the console until the end of the block; yields its URL.

    With port 0 that has a free one. Raises `ConfigurationError` if it cannot listen on the
    address, or may not: it is not the machine's own, and there are no logins.
    """
    own = settings.console
    is_local = _is_local(own)
    console = Console(app, settings, hosts=_hosts(own, is_local=is_local), is_local=is_local)
    with _listening(own.address) as listener:
        server = _Server(console, listener)
        async with console, running(server, grace=_END_SECONDS + 1):
            yield f"http://{_shown(own.address, listener)}/"


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers, as a component."""

    def __init__(self, console: Console, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                console,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_END_SECONDS,
                h11_max_incomplete_event_size=32_768,
            )
        )
        self._console = console
        self._listener = listener

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield

    async def run(self) -> None:  # type: ignore[override]
        """Serve until `stop`."""
        await self.serve([self._listener])

    def stop(self) -> None:
        """End what runs, and have `run` return."""
        self._console.end_streams()
        self.should_exit = True


def _is_local(own: ConsoleSettings) -> bool:
    """Whether only users of this machine reach the address."""
    host = host_of(own.address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(own: ConsoleSettings, *, is_local: bool) -> set[str] | None:
    """The names that it answers to; None is any, where people have to log in anyway."""
    if is_local:
        return {*_LOOPBACK, host_of(own.address), *own.hosts}
    return {host_of(own.address), *own.hosts} if own.hosts else None


@contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"the console cannot listen on {address}: {error}") from error
    try:
        yield listener
    finally:
        listener.close()


def _shown(address: str, listener: socket.socket) -> str:
    host = address.rpartition(":")[0]
    return f"{host}:{listener.getsockname()[1]}"
