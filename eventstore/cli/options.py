"""The options that every subcommand shares, and the settings they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.config import Settings, load_settings
from eventstore.server import running_server

__all__ = [
    "ConfigFile",
    "DataDirectory",
    "Database",
    "Json",
    "NatsUrl",
    "client_settings",
    "server_directory",
]

NatsUrl = Annotated[
    str | None,
    typer.Option(
        "--nats-url",
        metavar="URL",
        help="The NATS server; NATS_URL does the same.",
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
        help="The read-model database; EVENTSTORE_DATABASE does the same.  "
        "[default: ./var/read_model.sqlite]",
        show_default=False,
    ),
]
DataDirectory = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Where the embedded server keeps its data."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def server_directory(data: Path) -> Path:
    """Where the embedded server keeps its own files."""
    return data / "nats"


def client_settings(nats_url: str | None, config: Path | None, data: Path) -> Settings:
    """The settings of a subcommand that needs a running server.

    Where no server is named, the embedded one of `eventstore serve` in the same folder is meant,
    and the default address otherwise.
    """
    settings = load_settings(config, nats_url=nats_url)
    running = None if settings.nats.url else running_server(server_directory(data))
    return settings if running is None else settings.with_url(running)
