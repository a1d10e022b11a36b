"""The server of an application: the one that is configured, or else an embedded one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import FailureLog
from eventstore.config import Settings, redacted_url
from eventstore.errors import ConfigurationError, EventStoreError, ServerStartFailed
from eventstore.messages.text import make_log_records_safe
from eventstore.server.embedded import EmbeddedServer, running_server

_LOOK_SECONDS = 0.25
_BACKOFF = Backoff(0.5, 10.0)

_logger = make_log_records_safe(logging.getLogger(__name__))


def server_directory(directory: Path) -> Path:
    """The embedded server's own part of a directory."""
    return directory / "nats"


@asynccontextmanager
async def opened_server(settings: Settings, directory: Path) -> AsyncIterator[Settings]:
    """Settings for the server that is named, or for an embedded one that runs meanwhile.

    An embedded one that ends by itself, or is killed, is started again.
    """
    if settings.nats.url:
        yield settings
        return
    server = EmbeddedServer(server_directory(directory))
    try:
        await server.start()
    except OSError as error:
        raise ConfigurationError(f"--dir {directory} cannot be used: {error}") from error
    except ServerStartFailed as error:
        raise _explained(error, directory) from error
    reviving = asyncio.create_task(_revive(server))
    try:
        yield settings.with_url(server.url)
    finally:
        reviving.cancel()
        with suppress(asyncio.CancelledError):
            await reviving
        await server.stop()


async def _revive(server: EmbeddedServer) -> None:
    """Start the server again whenever it has ended, until cancelled."""
    failures = FailureLog("the embedded server", _logger, level=logging.ERROR)
    tries = 0
    while True:
        await asyncio.sleep(_LOOK_SECONDS if not tries else _BACKOFF.delay(tries))
        if (status := server.exit_status) is None:
            continue
        if not tries:
            _logger.error("nats-server %s ended with status %d", server.pid, status)
        tries += 1
        try:
            await server.restart()
        except (EventStoreError, OSError) as error:
            failures.note(error)
        else:
            tries = 0
            failures.recovered()
            _logger.error("nats-server runs again, as %s", server.pid)


def _explained(error: ServerStartFailed, directory: Path) -> ServerStartFailed:
    other = running_server(server_directory(directory))
    if other is None:
        return error
    return ServerStartFailed(
        f"a service runs in {directory} already, on {redacted_url(other)}: talk to it with send "
        "or events; or stop it; or choose another directory for this one with --dir"
    )
