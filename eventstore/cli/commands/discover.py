"""`eventstore discover`: the running services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json, table
from eventstore.messages.text import printable
from eventstore.service import discovery
from eventstore.service.discovery import DiscoveredService


async def discover(
    session: ClientSession,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.001, max=86_400.0, help="How long to listen."),
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop when this many are found.")
    ] = None,
    json: Json = False,
) -> None:
    """List the running services.

    Those are all that answer or announce themselves, of any implementation. Ends with status 0 if
    any is found, 1 if none is, 2 for an error. With --json each line is one instance: service,
    version, instance_id, description, endpoints.
    """
    async with session.connect() as client:
        found = await discovery.discover(client, timeout, count=count)
    if json:
        for each in found:
            say_json(each)
    else:
        print_services(Terminal(), found)
    raise typer.Exit(0 if found else 1)


def print_services(terminal: Terminal, found: Iterable[DiscoveredService]) -> None:
    """Print service instances, and how many endpoints of each kind they have."""
    shown = table("service", "version", "instance", "endpoints", "description")
    for each in found:
        kinds = Counter(endpoint.kind for endpoint in each.endpoints)
        endpoints = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        cells = (each.service, each.version, each.instance_id, endpoints, each.description)
        shown.add_row(*map(printable, cells))
    terminal.print(shown)
