"""`eventstore serve`: the service, staying up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from eventstore.cli.wiring import open_server, open_service, stop_on_signals
from eventstore.config import Settings

__all__ = ["serve"]


async def serve(settings: Settings, data: Path) -> None:
    """Run until Ctrl-C or SIGTERM; says on standard output, in one line, when it is ready."""
    stopped = asyncio.Event()
    with stop_on_signals(stopped.set):
        async with open_server(settings, data) as named, open_service(named) as service:
            name = f"{settings.nats.service.name} {settings.nats.service.version}"
            typer.echo(
                f"ready: {name} on {service.app.client.url}, read model {service.database.name}"
            )
            await stopped.wait()
            typer.echo("stopping: finishing what is under way", err=True)
