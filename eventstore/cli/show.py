"""What a person sees: outcomes, events and rows as tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.cli.importing import Executed
from eventstore.commands import Outcome
from eventstore.envelope import RecordedEvent
from eventstore.messages import Command

__all__ = [
    "event_json",
    "event_line",
    "print_events",
    "print_executed",
    "print_outcome",
    "print_rows",
]

_LONG_HEX = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}[0-9a-f-]{16,}")
_STYLES = {"success": "green", "rejected": "yellow", "error": "red"}


def print_outcome(console: Console, outcome: Outcome) -> None:
    """One outcome: what became of the command, and where to find it."""
    style = _STYLES[outcome.status]
    console.print(Text(f"{outcome.status}: {outcome.message} ({outcome.code})", style=style))
    facts = {
        "command": outcome.command_id,
        outcome.aggregate or "aggregate": outcome.aggregate_id,
        "version": outcome.version or None,
        "position": outcome.position or None,
        "events": ", ".join(outcome.event_ids) or None,
    }
    for name, value in facts.items():
        if value is not None:
            console.print(f"  {name:9} {value}", highlight=False)


def print_executed(console: Console, executed: Iterable[Executed], known: int = 0) -> None:
    """Commands with their outcomes; those that stood at position `known` already say so."""
    table = _table("command", "about", "outcome", "version")
    for imported, outcome in executed:
        before = outcome.status == "success" and 0 < outcome.position <= known
        text = "success (done before)" if before else f"{outcome.status} ({outcome.code})"
        table.add_row(
            type(imported.command).__name__,
            _about(imported.command),
            Text(text, style=_STYLES[outcome.status]),
            str(outcome.version or ""),
        )
    console.print(table)


def print_events(console: Console, events: Iterable[RecordedEvent]) -> None:
    """Events in the order of the log."""
    table = _table("position", "time", "event", "aggregate", "version", "caused by")
    for event in events:
        table.add_row(
            str(event.position),
            event.time.strftime("%H:%M:%S.%f")[:-3],
            event.type,
            f"{event.aggregate} {_brief(event.aggregate_id)}",
            str(event.version),
            _brief(event.causation_id),
        )
    console.print(table)


def print_rows(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows of a read model, all with the same columns."""
    if not rows:
        return
    table = _table(*rows[0])
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console.print(table)


def event_line(event: RecordedEvent) -> str:
    """An event on one line, for people."""
    time = event.time.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    return (
        f"{event.position:>8}  {time}  {event.type:<24} {event.aggregate} {event.aggregate_id} "
        f"v{event.version}  {event.payload.decode()}"
    )


def event_json(event: RecordedEvent) -> str:
    """An event as it is stored, headers included, as one JSON object on a line."""
    stored = msgspec.json.encode(
        {
            "position": event.position,
            "aggregate": event.aggregate,
            "aggregate_id": event.aggregate_id,
            "version": event.version,
            "type": event.type,
            "headers": event.headers,
            "data": msgspec.Raw(event.payload),
        }
    )
    return stored.decode()


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _about(command: Command) -> str:
    fields = msgspec.structs.asdict(command)
    return _brief(" ".join(str(value) for value in fields.values() if value))


def _brief(text: str) -> str:
    """Ids and revisions by their first eight digits, as people tell them apart."""
    return _LONG_HEX.sub(lambda match: f"{match[0][:8]}…", text)


def _cell(value: object) -> str:
    return "" if value is None else _brief(str(value))
