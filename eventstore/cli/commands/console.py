"""`eventstore console`: pages in a browser about a domain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from msgspec.structs import replace

from eventstore.application import Application
from eventstore.application.signals import until_signal
from eventstore.cli.options import ClientSession
from eventstore.cli.output.terminal import say
from eventstore.config import Settings
from eventstore.errors import ConfigurationError

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Where it listens; console.address in the configuration does the same.",
        show_default=False,
    ),
]


async def console(
    session: ClientSession,
    address: Address = None,
    operators: Annotated[
        list[str] | None,
        typer.Option(
            "--operator",
            metavar="NAME",
            help="Who may act: retry, discard, rebuild, pause; * is everybody.",
            show_default=False,
        ),
    ] = None,
    personal: Annotated[
        list[str] | None,
        typer.Option(
            "--personal",
            metavar="NAME",
            help="Who may see personal data; * is everybody.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the console until Ctrl-C or SIGTERM.

    Pages in a browser about stories, aggregates, projections and what is parked. It needs a NATS
    connection only, and shows and does what its user may; the service may run anywhere. Without
    logins (console.tokens_file, or console.login_header) it listens on the machine's own address
    only, and everybody there may look, but not act.

    Prints its URL. It can be started before the server. Ends with status 0 when it is stopped, 2
    for an error.
    """
    given = {
        "address": address,
        "operators": None if operators is None else tuple(operators),
        "personal": None if personal is None else tuple(personal),
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = replace(session.settings, console=replace(session.settings.console, **chosen))
    async with console_of(session.app, settings):
        await until_signal()


@asynccontextmanager
async def console_of(app: Application, settings: Settings) -> AsyncIterator[None]:
    """Serve the console until the end of the block, and print its URL.

    Raises `ConfigurationError`, also if the extra is not installed.
    """
    try:
        from eventstore.console import serve_console
    except ImportError as error:
        raise ConfigurationError(
            f"the console needs {error.name}: pip install 'jetstream-eventstore[console]'"
        ) from error
    async with serve_console(app, settings) as url:
        say(f"console: {url}")
        yield
