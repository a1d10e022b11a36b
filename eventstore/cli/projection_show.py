"""What a person sees of projections: a table of all, and everything of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.cli.projection_status import ProjectionDetails, ProjectionStatus
from eventstore.cli.terminal import printable
from eventstore.messages.envelope import utc_now
from eventstore.projections.database.parking import ParkedEvent

__all__ = ["details_json", "parked_json", "parked_line", "print_details", "print_statuses"]

_STYLES = {"live": "green", "failed": "red", "paused": "yellow", "version changed": "yellow"}


def details_json(found: ProjectionDetails) -> str:
    """All that is known of a projection as one JSON object, what its status says in it too."""
    facts = msgspec.to_builtins(found)
    return msgspec.json.encode({**facts.pop("status"), **facts}).decode()


def print_statuses(
    console: Console, found: Sequence[ProjectionStatus], problem: str | None
) -> None:
    """A line for each, and below what does not fit a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("projection", overflow="fold")
    table.add_column("version", justify="right")
    table.add_column("state", no_wrap=True)
    for name in ("position", "lag", "rate/s", "parked"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        table.add_row(
            each.name,
            str(each.version),
            Text(each.state, style=_STYLES.get(each.state, "")),
            f"{each.position:,}",
            "?" if each.lag is None else f"{each.lag:,}",
            f"{each.rate:,.0f}" if each.rate >= 1 else "-",
            f"{each.parked:,}" if each.parked else "-",
        )
    console.print(table)
    for note in _notes(found):
        console.print(printable(note), soft_wrap=True)
    _print_problem(console, problem)


def _notes(found: Sequence[ProjectionStatus]) -> list[str]:
    notes = [f"{each.name}: {each.error}" for each in found if each.error is not None]
    notes += [
        f"{each.name}: its rows were made by version {each.rows_version}"
        for each in found
        if each.rows_version not in {None, each.version}
    ]
    return notes


def print_details(console: Console, found: ProjectionDetails) -> None:
    """Everything of one."""
    status = found.status
    console.print(
        Text(f"{status.name}: {status.state}", style=_STYLES.get(status.state, "")), soft_wrap=True
    )
    _print_facts(
        console,
        {
            "error": status.error,
            "version": _version(status),
            "position": _position(status),
            "moved": None if found.updated_at is None else _ago(found.updated_at),
            "rate": f"{status.rate:,.0f} events/s" if status.rate >= 1 else None,
            "epoch": found.epoch,
            "log": found.log,
            "owner": status.owner,
            "rebuild": _rebuild(status),
            "events": ", ".join(found.event_types),
        },
    )
    console.print("tables", soft_wrap=True)
    _print_facts(console, {name: f"{rows:,} rows" for name, rows in found.tables.items()})
    if status.parked:
        console.print(f"parked, {status.parked:,} events", soft_wrap=True)
        _print_lines(console, map(parked_line, found.first_parked))
        if status.parked > len(found.first_parked):
            _print_lines(console, ["..."])
    _print_problem(console, found.problem)


def _print_problem(console: Console, problem: str | None) -> None:
    if problem is not None:
        console.print(printable(problem), soft_wrap=True)


def _version(status: ProjectionStatus) -> str:
    if status.rows_version in {None, status.version}:
        return str(status.version)
    return f"{status.version}, but its rows were made by version {status.rows_version}"


def _position(status: ProjectionStatus) -> str:
    if status.log_end is None:
        return f"{status.position:,}"
    return f"{status.position:,} of {status.log_end:,}, {status.lag:,} behind"


def _rebuild(status: ProjectionStatus) -> str | None:
    if status.rebuilder is not None:
        return f"at position {status.rebuilt_to or 0:,}, by {status.rebuilder}"
    if status.rebuilt_to is not None:
        return f"left at position {status.rebuilt_to:,}, nobody is at it"
    return None


def _ago(moment: datetime) -> str:
    seconds = max(0, round((utc_now() - moment).total_seconds()))
    shown = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return f"{shown}, {seconds} s ago" if seconds < 120 else shown


def parked_json(parked: ParkedEvent) -> str:
    """A parked event as one JSON object on a line."""
    return msgspec.json.encode(parked).decode()


def parked_line(parked: ParkedEvent) -> str:
    """A parked event on one line."""
    why = "waits for an older one of its aggregate" if parked.error is None else parked.error
    return printable(
        f"{parked.position:>6}  {parked.event_type} {parked.aggregate} {parked.aggregate_id}  "
        f"{parked.tries}x  {why}"
    )


def _print_facts(console: Console, facts: Mapping[str, object]) -> None:
    width = max(8, *map(len, facts))
    _print_lines(
        console, (f"{name:{width}}  {value}" for name, value in facts.items() if value is not None)
    )


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(printable(f"  {line}"), soft_wrap=True)
