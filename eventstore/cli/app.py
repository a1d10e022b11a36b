"""The command line: every subcommand with its options, and how errors are shown."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from eventstore.cli import demo as demo_command
from eventstore.cli import events as events_command
from eventstore.cli import importing, show
from eventstore.cli import send as send_command
from eventstore.cli import serve as serve_command
from eventstore.cli.options import (
    ConfigFile,
    Database,
    DataDirectory,
    Json,
    NatsUrl,
    client_settings,
)
from eventstore.config import load_settings
from eventstore.errors import EventStoreError

__all__ = ["main"]

T = TypeVar("T")

VAR = Path("var")

app = typer.Typer(
    name="eventstore",
    help="An event store on NATS JetStream, with the Nix domain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
nix_app = typer.Typer(help="The Nix domain's own commands.", no_args_is_help=True)
app.add_typer(nix_app, name="nix")


def main() -> None:
    """The console script: run a subcommand; an error is one line, and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        app()
    except EventStoreError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has enough; nothing may be flushed into the pipe any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@app.command()
def demo(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="flake.lock files; samples if none is given."),
    ] = None,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    data: DataDirectory = VAR,
) -> None:
    """Run the whole line once: lock files become commands, events and rows."""
    settings = load_settings(config, nats_url=nats_url, database=database)
    succeeded = _run(demo_command.demo(settings, data, files or [], Console()))
    raise typer.Exit(0 if succeeded else 1)


@app.command()
def serve(
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    data: DataDirectory = VAR,
) -> None:
    """Run the service until Ctrl-C; without a server named, with one of its own."""
    settings = load_settings(config, nats_url=nats_url, database=database)
    _run(serve_command.serve(settings, data))


@app.command()
def send(
    subject: Annotated[str, typer.Argument(help="For example nix.cmd.flake.create")],
    aggregate_id: Annotated[
        str | None, typer.Option("--id", help="The aggregate; new ones may leave it out.")
    ] = None,
    payload: Annotated[str, typer.Option("--data", metavar="JSON", help="The payload.")] = "{}",
    command_id: Annotated[
        str | None,
        typer.Option(help="The command's own id (a UUID), to send it again after a doubt."),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait.")] = 10.0,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    data: DataDirectory = VAR,
) -> None:
    """Execute one command: exit status 0 for success, 1 rejected, 2 error."""
    outcome = _run(
        send_command.send(
            client_settings(nats_url, config, data),
            subject,
            aggregate_id,
            payload,
            command_id=command_id,
            actor=actor,
            timeout=timeout,
        )
    )
    if json:
        typer.echo(outcome.to_json())
    else:
        show.print_outcome(Console(), outcome)
    raise typer.Exit(send_command.EXIT_STATUS[outcome.status])


@app.command()
def events(
    aggregate: Annotated[str | None, typer.Argument(help="For example flake")] = None,
    aggregate_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    after: Annotated[int, typer.Option(min=0, help="Only events after this position.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new events.")] = False,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    data: DataDirectory = VAR,
) -> None:
    """Print what is stored, oldest first; with --json one object a line, headers included."""
    settings = client_settings(nats_url, config, data)
    stored = events_command.stored_events(
        settings, aggregate, aggregate_id, after=after, live=follow
    )
    line = show.event_json if json else show.event_line
    _run(events_command.print_events(stored, limit, line))


@nix_app.command("import")
def nix_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="flake.lock files.")],
    name: Annotated[
        str | None, typer.Option(help="The flake's name, where the file's is not it.")
    ] = None,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    data: DataDirectory = VAR,
) -> None:
    """Import lock files into a running service; doing it again changes nothing."""
    settings = client_settings(nats_url, config, data)
    executed = _run(importing.import_files(settings, files, name, Console(stderr=json)))
    if json:
        for _, outcome in executed:
            typer.echo(outcome.to_json())
    else:
        show.print_executed(Console(), executed)
    raise typer.Exit(max(send_command.EXIT_STATUS[outcome.status] for _, outcome in executed))


def _run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where that is installed; Ctrl-C cancels and cleans up."""
    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        return runner.run(main)


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
