"""Outcomes of commands, one in full or many as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from eventstore.cli.output.terminal import STATUS_STYLES, Terminal, brief, table
from eventstore.commands import Outcome
from eventstore.messages.text import printable
from eventstore.messages.types import Command
from eventstore.nix import AddFlakeInput, CreateFlake, ImportedCommand, RemoveFlakeInput

EXIT_STATUS = {"success": 0, "rejected": 1, "error": 2}

ExecutedCommand = tuple[ImportedCommand, Outcome | None]
"""A command with its outcome; None for what the flake had already, by whatever command."""

_SHOWN_FIELDS: Mapping[type[Command], tuple[str, ...]] = {
    CreateFlake: ("path",),
    AddFlakeInput: ("name", "url"),
    RemoveFlakeInput: ("name",),
}


def print_outcome(terminal: Terminal, outcome: Outcome) -> None:
    """Print an outcome: what became of the command, and where to find its events."""
    code = "" if outcome.status == "success" else f" ({outcome.code})"
    terminal.print_line(f"{outcome.status}: {outcome.message}{code}", STATUS_STYLES[outcome.status])
    facts = {
        "command": outcome.command_id,
        outcome.aggregate or "aggregate": outcome.aggregate_id,
        "version": outcome.version or None,
        "position": outcome.position or None,
        "events": ", ".join(outcome.event_ids) or None,
    }
    terminal.facts(facts, width=9)


def print_executed(terminal: Terminal, executed: Sequence[ExecutedCommand], known: int = 0) -> None:
    """Print commands with their outcomes; one up to position `known` is marked as done before."""
    shown = table("id", "command", "about", "outcome")
    shown.columns[0].no_wrap = shown.columns[1].no_wrap = True
    for imported, outcome in executed:
        names = _SHOWN_FIELDS[type(imported.command)]
        about = " ".join(str(getattr(imported.command, name)) for name in names)
        shown.add_row(
            brief(imported.command_id),
            type(imported.command).__name__,
            Text(printable(brief(about)), no_wrap=True, overflow="ellipsis"),
            _short(outcome, known),
        )
    terminal.print(shown)
    for imported, outcome in executed:
        if outcome is not None and outcome.status != "success":
            text = f"{brief(imported.command_id)} {outcome.status}: {outcome.message}"
            terminal.print_line(text, STATUS_STYLES[outcome.status])


def _short(outcome: Outcome | None, known: int) -> Text:
    if outcome is None:
        return Text("unchanged")
    text = "done before" if 0 < outcome.position <= known else "success"
    if outcome.status != "success":
        text = f"{outcome.status} ({outcome.code})"
    return Text(text, style=STATUS_STYLES[outcome.status])
