"""`eventstore serve`: run the service."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec.structs import replace

from eventstore.application.process import nothing_beside, serving
from eventstore.cli.commands.console import console_of
from eventstore.cli.options import ServeSession
from eventstore.cli.output.terminal import say
from eventstore.service.json_logs import log_times


async def serve(
    session: ServeSession,
    console: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve the console there, too: pages in a browser.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    If no server is named, it runs on an embedded one. A server that does not answer yet is waited
    for, for a minute unless the configuration file has another value (nats.retry.first_connect_ms).

    With --processes 2, projections, queries, the feed and subscribers run in a second process, and
    commands are carried out in this one: two cores are used. It is one service still. A crash of
    the second process is logged, health reports it, and the process is started again.

    Prints one line when it is ready, and logs to standard error, with times in UTC. A second
    Ctrl-C ends the process immediately. Ends with status 0 when it is stopped, 2 for an error, 130
    for Ctrl-C before it is ready.
    """
    log_times()
    app, settings = session.app, session.settings
    if console is not None:
        settings = replace(settings, console=replace(settings.console, address=console))
    await serving(
        *(app, settings, session.directory),
        say=say,
        beside=nothing_beside
        if console is None
        else lambda service: console_of(app, service.settings),
    )
