"""The command line: every subcommand with its options, and how errors are shown."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.cli import events as events_command
from eventstore.cli import face, importing, show, transferring
from eventstore.cli import send as send_command
from eventstore.cli.audit import audit_app
from eventstore.cli.keys import keys_app
from eventstore.cli.loop import run
from eventstore.cli.operating import command_app, config_app, parked_app
from eventstore.cli.ops import ops_app
from eventstore.cli.options import (
    VAR,
    ConfigFile,
    Database,
    Directory,
    Json,
    NatsUrl,
    client_settings,
    service_settings,
)
from eventstore.cli.projection import projection_app
from eventstore.cli.query import query_app
from eventstore.cli.terminal import Terminal, never_fail_to_encode, say
from eventstore.commands import Outcome
from eventstore.config import ServiceSettings
from eventstore.errors import EventStoreError
from eventstore.messages.envelope import new_id
from eventstore.text import encodable, make_log_records_safe, printable_lines

__all__ = ["main"]

LONGEST_TIMEOUT = 86_400.0

app = typer.Typer(
    name="eventstore",
    help="An event store on NATS JetStream, with the Nix domain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
nix_app = typer.Typer(help="The Nix domain's own commands.", no_args_is_help=True)
app.add_typer(nix_app, name="nix")
app.add_typer(command_app, name="command")
app.add_typer(parked_app, name="parked")
app.add_typer(config_app, name="config")
app.add_typer(audit_app, name="audit")
app.add_typer(keys_app, name="keys")
app.add_typer(query_app, name="query")
app.add_typer(projection_app, name="projection")
app.add_typer(ops_app, name="ops")


def main() -> None:
    """The console script: run a subcommand; an error is one line, and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        make_log_records_safe(handler)  # what other libraries log, too
    never_fail_to_encode()
    try:
        app()
    except EventStoreError as error:
        # Of several lines, the further ones are indented: nobody takes them for other errors.
        lines = "\n  ".join(printable_lines(f"error: {error}").split("\n"))
        typer.secho(lines, err=True, fg="red")
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eventstore {ServiceSettings().version}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """What comes before the subcommand."""


@app.command(short_help="Run everything once on real lock files.")
def demo(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="flake.lock files; samples if none is given."),
    ] = None,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Run the whole line once: lock files become commands, events and rows.

    Ends with status 0 if every command succeeded, 1 if not, 2 for an error.
    """
    # The read side takes as long to import as all the rest; who only sends need not wait for it.
    from eventstore.cli.demo import demo as run_demo

    settings = service_settings(nats_url, config, database, directory)
    succeeded = run(run_demo(settings, directory, files or [], Terminal()))
    raise typer.Exit(0 if succeeded else 1)


@app.command(short_help="Run the service until Ctrl-C.")
def serve(
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Run the service until Ctrl-C or SIGTERM, on a server of its own if none is named.

    A server that does not answer yet is waited for, for a minute unless the configuration file
    says otherwise (nats.retry.first_connect_ms).

    Prints one line when it is ready. Ends with status 0 when it is stopped, 2 for an error, 130
    for Ctrl-C before it is ready.
    """
    from eventstore.cli.serve import FIRST_CONNECT_MS
    from eventstore.cli.serve import serve as run_service

    settings = service_settings(
        nats_url, config, database, directory, first_connect_ms=FIRST_CONNECT_MS
    )
    run(run_service(settings, directory))


@app.command(short_help="Bring the read model's schema up to date.")
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Only tell, and change nothing (status 1 if behind).")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Bring the read model's schema to the newest revision; no server is needed for that.

    Ends with status 0 if it is there, 1 if it is behind and only checked, 2 for an error; nothing
    is changed then. `serve` does the same when it starts.
    """
    from eventstore.cli.migrating import migrate as run_migration

    settings = service_settings(None, config, database, directory)
    is_newest = run(run_migration(settings.read_model.database, only_check=check, json=json))
    raise typer.Exit(0 if is_newest else 1)


@app.command(short_help="Execute one command.")
def send(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="For example nix.cmd.flake.create")
    ],
    aggregate_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The aggregate; new ones may leave it out."),
    ] = None,
    payload: Annotated[str, typer.Option("--data", metavar="JSON", help="The payload.")] = "{}",
    command_id: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="The command's own id, to send it again after a doubt."),
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="On whose behalf.")] = None,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            max=LONGEST_TIMEOUT,
            help="How long to wait.",
        ),
    ] = 10.0,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Execute one command in a running service, and print its outcome.

    Ends with status 0 for success, 1 if it was rejected, 2 for an error.
    """
    own = command_id or new_id()
    try:
        settings = client_settings(nats_url, config, directory)
        outcome = run(
            send_command.send(
                settings,
                subject,
                aggregate_id,
                payload,
                command_id=own,
                actor=actor,
                timeout=timeout,
            )
        )
    except EventStoreError as error:
        outcome = Outcome(
            status="error",
            message=encodable(str(error)),
            code=error.code,
            command_id=encodable(own),
            aggregate_id=None if aggregate_id is None else encodable(aggregate_id),
        )
    if json:
        say(outcome.to_json().decode())
    else:
        show.print_outcome(Terminal(), outcome)
    raise typer.Exit(send_command.EXIT_STATUS[outcome.status])


@app.command(short_help="Print what is stored.")
def events(
    aggregate: Annotated[
        str | None, typer.Argument(metavar="AGGREGATE", help="For example flake")
    ] = None,
    aggregate_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only this aggregate's.")
    ] = None,
    after: Annotated[
        int, typer.Option(metavar="POSITION", min=0, help="Only events after this position.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many events.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with new events until Ctrl-C (status 130).")
    ] = False,
    foreign: Annotated[
        bool,
        typer.Option("--foreign", help="Only messages in the log that the store did not write."),
    ] = False,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Print what is stored, oldest first.

    With --json each line is an object: position, aggregate, aggregate_id, version, type, headers
    and data; of an event that cannot be read, also unreadable: why. With --foreign it is position,
    subject, reason, headers and data.
    """
    if foreign and follow:
        raise typer.BadParameter("foreign messages are not followed", param_hint="--follow")
    settings = client_settings(nats_url, config, directory)
    if foreign:
        messages = events_command.foreign_messages(settings, aggregate, aggregate_id, after=after)
        shown = show.foreign_json if json else show.foreign_line
        run(events_command.print_events(messages, limit, shown))
        return
    stored = events_command.stored_events(
        settings, aggregate, aggregate_id, after=after, live=follow
    )
    line = show.event_json if json else show.event_line
    run(events_command.print_events(stored, limit, line))


@app.command(short_help="Ask a service how it is.")
def health(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A service or a domain; the configured service."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.001, max=LONGEST_TIMEOUT, help="How long to wait."),
    ] = 5.0,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Ask a running service how it is: its connection, streams, commands and read models.

    Ends with status 0 if it is healthy, 1 if degraded, 2 if unhealthy or not to be reached.
    """
    report = run(face.ask_health(client_settings(nats_url, config, directory), name, timeout))
    if json:
        say(report.to_json().decode())
    else:
        face.print_health(Terminal(), report)
    raise typer.Exit(face.EXIT_STATUS[report.status])


@app.command(short_help="List the services that are there.")
def discover(
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.001, max=LONGEST_TIMEOUT, help="How long to listen."),
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="End as soon as so many are found.")
    ] = None,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """List the services that answer or announce themselves, whoever made them.

    Ends with status 0 if any is found, 1 if none is, 2 for an error. With --json each line is one
    instance: service, version, instance_id, description, endpoints.
    """
    settings = client_settings(nats_url, config, directory)
    found = run(face.find_services(settings, timeout, count))
    if json:
        for each in found:
            say(msgspec.json.encode(each).decode())
    else:
        face.print_found(Terminal(), found)
    raise typer.Exit(0 if found else 1)


app.command("export", short_help="Write all events to a file.")(transferring.export_file)
app.command("import", short_help="Record a file's events.")(transferring.import_file)
app.command("copy", short_help="Copy an export, transformed.")(transferring.copy_file)


@nix_app.command("import", short_help="Import lock files into a running service.")
def nix_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="flake.lock files.")],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The flake's name, if the file's name is not it."),
    ] = None,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Import lock files into a running service; doing it again changes nothing.

    Of a lock file that has changed, new inputs are added, gone ones removed, and one whose url
    changed is removed and added.

    Ends with status 0 if every command succeeded, 1 if one was rejected, 2 for an error. With
    --json each line is the outcome of one command.
    """
    if name is not None and len(files) > 1:
        raise typer.BadParameter(
            f"one name cannot be that of {len(files)} files", param_hint="--name"
        )
    settings = client_settings(nats_url, config, directory)
    out = Terminal(stderr=json)
    imported, known = run(importing.import_files(settings, files, name, out))
    executed = [pair for each in imported for pair in each.executed]
    outcomes = [outcome for _, outcome in executed if outcome is not None]
    if json:
        for outcome in outcomes:
            say(outcome.to_json().decode())
    else:
        show.print_executed(out, executed, known)
    show.print_imported(out, imported)
    statuses = [send_command.EXIT_STATUS[outcome.status] for outcome in outcomes]
    raise typer.Exit(max(statuses, default=0))
