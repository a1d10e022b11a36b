"""What a person sees: outcomes, events and rows as tables, in 80 columns where that is possible."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.cli.importing import Executed, Imported
from eventstore.cli.terminal import printable
from eventstore.commands import Outcome
from eventstore.messages.envelope import LogEvent, RecordedEvent, UnreadEvent
from eventstore.messages.types import Command
from eventstore.nix import AddFlakeInput, CreateFlake, RemoveFlakeInput
from eventstore.store.foreign import ForeignMessage
from eventstore.text import decoded, encodable
from eventstore.undecodable import UNDECODABLE

__all__ = [
    "brief",
    "event_json",
    "event_line",
    "foreign_json",
    "foreign_line",
    "payload_data",
    "print_events",
    "print_executed",
    "print_imported",
    "print_outcome",
    "print_rows",
]

_LONG_HEX = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}[0-9a-f-]{16,}")
_STYLES = {"success": "green", "rejected": "yellow", "error": "red"}
_IMPORTED = {
    CreateFlake: ("path",),
    AddFlakeInput: ("name", "url"),
    RemoveFlakeInput: ("name",),
}


def print_outcome(console: Console, outcome: Outcome) -> None:
    """One outcome: what became of the command, and where to find it."""
    code = "" if outcome.status == "success" else f" ({outcome.code})"
    text = printable(f"{outcome.status}: {outcome.message}{code}")
    console.print(Text(text, style=_STYLES[outcome.status]), soft_wrap=True)
    facts = {
        "command": outcome.command_id,
        outcome.aggregate or "aggregate": outcome.aggregate_id,
        "version": outcome.version or None,
        "position": outcome.position or None,
        "events": ", ".join(outcome.event_ids) or None,
    }
    for name, value in facts.items():
        if value is not None:
            console.print(f"  {name:9} {printable(str(value))}", soft_wrap=True)


def print_executed(console: Console, executed: Sequence[Executed], known: int = 0) -> None:
    """Commands with their outcomes; those that stood at position `known` already say so."""
    table = _table("id", "command", "about", "outcome")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for imported, outcome in executed:
        table.add_row(
            brief(imported.command_id),
            type(imported.command).__name__,
            Text(_cell(_about(imported.command)), no_wrap=True, overflow="ellipsis"),
            _short(outcome, known),
        )
    console.print(table)
    for imported, outcome in executed:
        if outcome is not None and outcome.status != "success":
            text = f"{brief(imported.command_id)} {outcome.status}: {outcome.message}"
            console.print(Text(printable(text), style=_STYLES[outcome.status]), soft_wrap=True)


def print_imported(console: Console, imported: Iterable[Imported]) -> None:
    """How each flake's inputs differed from what it had."""
    for each in imported:
        counts = (
            f"{each.added} added, {each.removed} removed, {each.changed} changed, "
            f"{len(each.unchanged)} unchanged"
        )
        console.print(Text(printable(f"{each.flake}: {counts}")), soft_wrap=True)


def print_events(console: Console, events: Iterable[RecordedEvent]) -> None:
    """Events in the order of the log."""
    table = _table("position", "time (UTC)", "event", "aggregate", "version", "caused by")
    for event in events:
        table.add_row(
            str(event.position),
            event.time.strftime("%H:%M:%S.%f")[:-3],
            printable(event.type),
            printable(f"{event.aggregate} {brief(event.aggregate_id)}"),
            str(event.version),
            printable(brief(event.causation_id)),
        )
    console.print(table)


def print_rows(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows of a table, all with the same columns."""
    console.print(Text(f"{title}, {len(rows)} row{'' if len(rows) == 1 else 's'}", style="italic"))
    if rows:
        table = _table(*rows[0])
        for row in rows:
            table.add_row(*map(_cell, row.values()))
        console.print(table)


def event_line(event: LogEvent) -> str:
    """An event on one line, for people; one that cannot be read says why."""
    time = event.time.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    error = event.error if isinstance(event, UnreadEvent) else None
    return printable(
        f"{event.position:>6}  {time}  {event.envelope.type} "
        f"{event.aggregate} {event.aggregate_id} v{event.version}  {decoded(event.payload)}"
        + ("" if error is None else f"  (unreadable: {error})")
    )


def event_json(event: LogEvent) -> str:
    """An event as it is stored, headers included, as one JSON object on a line."""
    error = event.error if isinstance(event, UnreadEvent) else None
    stored = {
        "position": event.position,
        "aggregate": event.aggregate,
        "aggregate_id": event.aggregate_id,
        "version": event.version,
        "type": event.envelope.type,
        "headers": event.headers,
        # Whoever wrote it may have left an empty one out.
        "data": payload_data(event.payload or b"{}"),
        **({} if error is None else {"unreadable": str(error)}),
    }
    return msgspec.json.encode(stored).decode()


def foreign_line(message: ForeignMessage) -> str:
    """A foreign message on one line, for people."""
    return printable(
        f"{message.position:>6}  {message.subject}: {message.reason}  {decoded(message.payload)}"
    )


def foreign_json(message: ForeignMessage) -> str:
    """A foreign message as it is stored, and why it is foreign, as one JSON object on a line."""
    stored = {
        "position": message.position,
        "subject": encodable(message.subject),
        "reason": encodable(message.reason),
        "headers": {encodable(name): encodable(each) for name, each in message.headers.items()},
        "data": payload_data(message.payload),
    }
    return msgspec.json.encode(stored).decode()


def payload_data(payload: bytes) -> object:
    """A payload as JSON on one line; what is none, as text."""
    try:
        msgspec.json.decode(payload)
        # Whoever wrote it may have broken it into lines.
        return msgspec.Raw(msgspec.json.format(payload, indent=-1))
    except UNDECODABLE:
        return decoded(payload)


def _table(*columns: str) -> Table:
    """A table without lines, whose cells wrap where it is too wide."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _about(command: Command) -> str:
    names = _IMPORTED[type(command)]
    return " ".join(str(getattr(command, name)) for name in names)


def _short(outcome: Outcome | None, known: int) -> Text:
    if outcome is None:
        return Text("unchanged")
    text = "done before" if 0 < outcome.position <= known else "success"
    if outcome.status != "success":
        text = f"{outcome.status} ({outcome.code})"
    return Text(text, style=_STYLES[outcome.status])


def brief(text: str) -> str:
    """Ids and revisions by their first eight digits, as people tell them apart."""
    return _LONG_HEX.sub(lambda match: f"{match[0][:8]}…", text)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else printable(brief(str(value)))
