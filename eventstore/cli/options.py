"""The options that subcommands share, and the settings they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.config import ReadModelSettings, Settings, load_settings
from eventstore.server.embedded import running_server

__all__ = [
    "VAR",
    "ConfigFile",
    "Database",
    "Directory",
    "Json",
    "NatsUrl",
    "client_settings",
    "local_settings",
    "server_directory",
    "service_settings",
]

VAR = Path("var")
"""Where the embedded server has its data, unless told otherwise."""

NatsUrl = Annotated[
    str | None,
    typer.Option(
        "--nats-url",
        metavar="URL",
        help="The NATS server; NATS_URL does the same, and shows no credentials to who lists "
        "processes.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A TOML file of settings; EVENTSTORE_CONFIG does the same.",
        show_default=False,
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="PATH|URL",
        help="The read-model database; EVENTSTORE_DATABASE does the same, and shows no password "
        "to who lists processes.  [default: read_model.sqlite in --dir]",
        show_default=False,
    ),
]
Directory = Annotated[
    Path,
    typer.Option("--dir", metavar="DIR", help="Where the embedded server has its data."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


_FIRST_CONNECT_MS = 3_000  # a person waits for the answer


def server_directory(directory: Path) -> Path:
    """Where the embedded server keeps its own files."""
    return directory / "nats"


def service_settings(
    nats_url: str | None,
    config: Path | None,
    database: str | None,
    directory: Path,
    *,
    first_connect_ms: int = _FIRST_CONNECT_MS,
) -> Settings:
    """The settings of a service, whose read model is in its directory unless one is named."""
    loaded = load_settings(config, nats_url=nats_url, database=database)
    settings = _patient(loaded, first_connect_ms)
    if settings.read_model != ReadModelSettings():
        return settings
    read_model = ReadModelSettings(database=str(directory / "read_model.sqlite"))
    return msgspec.structs.replace(settings, read_model=read_model)


def client_settings(nats_url: str | None, config: Path | None, directory: Path) -> Settings:
    """The settings of a subcommand that needs a running server.

    Where no server is named, the embedded one of `eventstore serve` in the same folder is meant,
    and the default address otherwise.
    """
    settings = _patient(load_settings(config, nats_url=nats_url), _FIRST_CONNECT_MS)
    return _found(settings, directory)


def local_settings(
    nats_url: str | None, config: Path | None, database: str | None, directory: Path
) -> Settings:
    """The settings of a subcommand that uses the read model of a service, and the server it runs.

    `nats.url` stays empty where no server is named, and none runs in the folder.
    """
    return _found(service_settings(nats_url, config, database, directory), directory)


def _patient(settings: Settings, first_connect_ms: int) -> Settings:
    """With so long a wait for a server, unless the settings say how long that is to be."""
    retry = settings.nats.retry
    if retry.first_connect_ms is not None:
        return settings
    retry = msgspec.structs.replace(retry, first_connect_ms=first_connect_ms)
    nats = msgspec.structs.replace(settings.nats, retry=retry)
    return msgspec.structs.replace(settings, nats=nats)


def _found(settings: Settings, directory: Path) -> Settings:
    running = None if settings.nats.url else running_server(server_directory(directory))
    return settings if running is None else settings.with_url(running)
