"""The command line for looking into history and proving it: `audit`, with its options."""

from __future__ import annotations

import typer

from eventstore.cli import forgetting, proving

__all__ = ["audit_app"]

audit_app = typer.Typer(help="Explain events, and prove history.", no_args_is_help=True)
audit_app.command("verify", short_help="Check that no event was changed.")(proving.verify)
audit_app.command("anchor", short_help="Print what proves the history later.")(proving.anchor)
audit_app.command("forget", short_help="Make a subject's personal data unreadable.")(
    forgetting.forget
)
