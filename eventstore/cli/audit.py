"""The command line's `audit`: each subcommand is in a module of its own."""

from __future__ import annotations

import typer

from eventstore.cli import forgetting, proving
from eventstore.cli.explaining import export, history, search, trace

__all__ = ["audit_app"]

audit_app = typer.Typer(help="Explain events, and prove history.", no_args_is_help=True)
audit_app.command(short_help="Tell a whole story as a tree of causes.")(trace)
audit_app.command(short_help="Tell what happened to an aggregate.")(history)
audit_app.command(short_help="Find events and commands.")(search)
audit_app.command(short_help="Write events and commands to a file.")(export)
audit_app.command("verify", short_help="Check that no event was changed.")(proving.verify)
audit_app.command("anchor", short_help="Print what proves the history later.")(proving.anchor)
audit_app.command("forget", short_help="Make a subject's personal data unreadable.")(
    forgetting.forget
)
