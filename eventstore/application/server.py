"""The server of an application: the one that is configured, or else an embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventstore.config import Settings, redacted_url
from eventstore.errors import ConfigurationError, ServerStartFailed
from eventstore.server.embedded import EmbeddedServer, running_server


def server_directory(directory: Path) -> Path:
    """The embedded server's own part of a directory."""
    return directory / "nats"


@asynccontextmanager
async def opened_server(settings: Settings, directory: Path) -> AsyncIterator[Settings]:
    """Settings for the server that is named, or for an embedded one that runs meanwhile."""
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
    try:
        yield settings.with_url(server.url)
    finally:
        await server.stop()


def _explained(error: ServerStartFailed, directory: Path) -> ServerStartFailed:
    other = running_server(server_directory(directory))
    if other is None:
        return error
    return ServerStartFailed(
        f"a service runs in {directory} already, on {redacted_url(other)}: talk to it with send "
        "or events; or stop it; or choose another directory for this one with --dir"
    )
