"""The command line: the table of its subcommands, and how errors are shown."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection
from importlib import metadata
from typing import Annotated, Any

import typer

from eventstore.application import Application
from eventstore.cli.applications import name_application
from eventstore.cli.groups import Group, LazyGroup, add_subcommands
from eventstore.config import Settings
from eventstore.errors import EventStoreError
from eventstore.messages.text import make_log_records_safe, printable_lines

SUBCOMMANDS = {
    "demo": "Run everything once on real lock files.",
    "new": "Make a project, with one example of each part.",
    "serve": "Run the service until Ctrl-C or SIGTERM.",
    "dev": "Run the service, and start it again when a file changes.",
    "console": "Serve the console until Ctrl-C or SIGTERM.",
    "shell": "Open a Python prompt with the application connected.",
    "migrate": "Migrate the read model's schema to the newest revision.",
    "send": "Execute one command, and print its outcome.",
    "events": "Print the events of the log, oldest first.",
    "health": "Print the health of a running service.",
    "discover": "List the running services.",
    "export": "Write all events of the log to a file.",
    "import": "Record all events of a file in an empty log.",
    "copy": "Write a transformed copy of an export.",
    "recover": "Recover from a log that went back, or is gone.",
    "backup": "Copy all streams, buckets and read models to a directory.",
    "restore": "Restore a backup where nothing is.",
    "query": "Query a read model of a running service.",
}
GROUPS = {
    "nix": Group(
        "Commands of the Nix domain.",
        {"import": "Import lock files into a running service."},
    ),
    "command": Group(
        "Look up commands that were sent.",
        {"status": "Print the outcome of a command that was sent earlier."},
    ),
    "timer": Group(
        "Set, inspect, cancel and fire timers.",
        {
            "set": "Set a timer: the server queues a command when it is due.",
            "list": "List the timers that wait, in the order in which they were set.",
            "show": "Print a timer in full: when it is due, its command, and what caused it.",
            "cancel": "Cancel a timer: its command will not be carried out.",
            "fire": "Make a timer due now.",
        },
    ),
    "parked": Group(
        "Inspect, retry and discard parked messages.",
        {
            "list": "List parked messages, oldest first.",
            "show": "Print a parked message in full.",
            "retry": "Retry parked messages.",
            "discard": "Delete a parked message permanently.",
        },
    ),
    "config": Group(
        "Configure services while they run.",
        {
            "get": "Print one key, or all keys.",
            "set": "Set a key for all services of the domain.",
            "unset": "Unset a key.",
        },
    ),
    "audit": Group(
        "Explain events, and prove the history.",
        {
            "trace": "Print a correlation as a tree of causes and effects.",
            "history": "Print what happened to an aggregate.",
            "search": "Search events and commands, newest first.",
            "actions": "Print what administrators have done, newest first.",
            "export": "Write events and commands to a file, oldest first.",
            "verify": "Check that no event was changed or removed.",
            "anchor": "Print a document that proves the history later.",
            "forget": "Make the personal data of a subject permanently unreadable.",
        },
    ),
    "keys": Group(
        "Manage the master keys of personal data.",
        {
            "new": "Create a master key.",
            "status": "Count the keys of data subjects by master key.",
            "rewrap": "Wrap all keys with the first master key.",
        },
    ),
    "projection": Group(
        "Inspect and rebuild projections.",
        {
            "list": "Print the status of every projection.",
            "show": "Print the details of one projection.",
            "rebuild": "Rebuild projections from the log, without a gap.",
            "pause": "Pause projections in all services.",
            "resume": "Resume projections that are paused or have failed.",
            "reset": "Delete all rows of a projection.",
            "parked": "List the events that a projection has parked.",
            "retry": "Apply parked events with the current code.",
            "discard": "Give up a parked event permanently.",
        },
    ),
    "subscriber": Group(
        "Inspect and reset subscribers.",
        {
            "list": "Print the status of every subscriber.",
            "show": "Print the details of one subscriber.",
            "reset": "Set a subscriber back, or forward.",
        },
    ),
    "process": Group(
        "Inspect processes, and retry failed ones.",
        {
            "list": "Print the processes that have recorded something last, the latest first.",
            "show": "Print what one process has done.",
            "retry": "Have failed processes react once more to their parked events.",
        },
    ),
    "schema": Group(
        "Describe all messages to others, and compare releases.",
        {
            "json": "Print the JSON Schema of all messages.",
            "asyncapi": "Print an AsyncAPI 3 document.",
            "check": "Compare the application with an earlier contract.",
        },
    ),
    "ops": Group(
        "Set up a domain.",
        {
            "nats": "Write the configuration of NATS servers and users.",
            "service": "Write the files that run the service.",
            "monitoring": "Write what Prometheus and Grafana need to watch the service.",
        },
    ),
}


_OF_THE_SHIPPED_DOMAIN = ("demo", "new", "nix")
_OPTIONS: dict[str, Any] = {
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},  # of all subcommands, too
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}


class _Root(LazyGroup):
    left_out: Collection[str] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names = [name for name in SUBCOMMANDS if name not in self.left_out]
        add_subcommands(self, "eventstore.cli.commands", {n: SUBCOMMANDS[n] for n in names})
        for name, group in GROUPS.items():
            if name not in self.left_out:
                made = LazyGroup(
                    name=name, help=group.about, no_args_is_help=True, rich_markup_mode=None
                )
                add_subcommands(made, f"eventstore.cli.{name}", group.subcommands)
                self.add_command(made)


class _OwnRoot(_Root):
    left_out = _OF_THE_SHIPPED_DOMAIN


app = typer.Typer(
    name="eventstore",
    cls=_Root,
    help="An event store on NATS JetStream, with the Nix domain.",
    **_OPTIONS,
)


def main(program: typer.Typer) -> None:
    """Run a subcommand of the program; an error is one line, and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        make_log_records_safe(handler)  # records of other libraries, too
    never_fail_to_encode()
    try:
        program()
    except EventStoreError as error:
        # Further lines are indented, so that nobody takes them for other errors.
        lines = "\n  ".join(printable_lines(f"error: {error}").split("\n"))
        color = False if os.environ.get("NO_COLOR") else None  # None: if it is a terminal
        typer.secho(lines, err=True, fg="red", color=color)
        sys.exit(2)


def never_fail_to_encode() -> None:
    """Have characters that the terminal's encoding lacks printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _version_option(text: Callable[[], str]) -> Any:
    """The option that prints the version."""

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(text())
            raise typer.Exit

    return typer.Option(
        False, "--version", callback=print_version, is_eager=True, help="Print the version."
    )


_VERSION = _version_option(lambda: f"eventstore {metadata.version('jetstream-eventstore')}")


@app.callback()
def common(
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:OBJECT",
            callback=name_application,
            is_eager=True,
            help="The application; EVENTSTORE_APP does the same, or app in the configuration file, "
            "or in [tool.eventstore] of pyproject.toml.  [default: the Nix domain]",
            show_default=False,
        ),
    ] = None,
    version: bool = _VERSION,
) -> None:
    """Options before the subcommand."""


def program_of(application: Application) -> typer.Typer:
    """The command line as a program of one application: without `--app` and the shipped domain."""
    own = application.identity(Settings())
    about = own.description or f"The service {own.name}."
    program = typer.Typer(name=own.name, cls=_OwnRoot, help=about, **_OPTIONS)
    option = _version_option(lambda: f"{own.name} {own.version}")

    @program.callback()
    def common(version: bool = option) -> None:
        """Options before the subcommand."""

    return program
