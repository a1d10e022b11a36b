"""`eventstore projection show`: the details of one projection."""

from __future__ import annotations

from datetime import datetime

import msgspec

from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.projection.list_ import STYLES
from eventstore.cli.projection.parked import parked_line
from eventstore.cli.projection.status import ProjectionDetails, details
from eventstore.cli.read_models import ProjectionName, projection_named
from eventstore.cli.times import moment
from eventstore.messages.envelope import utc_now
from eventstore.messages.text import counted
from eventstore.projections.status import ProjectionStatus


async def show(session: ReadModelSession, name: ProjectionName, json: Json = False) -> None:
    """Print the details of one projection.

    Its tables, its checkpoint, its events, and what is parked.
    """
    found = await details(session, projection_named(session, name))
    if json:
        facts = msgspec.to_builtins(found)
        say_json({**facts.pop("status"), **facts})
    else:
        _print(Terminal(), found)


def _print(terminal: Terminal, found: ProjectionDetails) -> None:
    status = found.status
    terminal.print_line(f"{status.name}: {status.state}", STYLES.get(status.state, ""))
    terminal.facts(
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
        width=9,
    )
    terminal.print_line("tables")
    tables = {name: counted(rows, "row") for name, rows in found.tables.items()}
    terminal.facts(tables, width=1 + max(8, *map(len, tables)))
    if status.parked:
        terminal.print_line(f"parked, {counted(status.parked, 'event')}")
        for each in found.first_parked:
            terminal.print_line(f"  {parked_line(each)}")
        if status.parked > len(found.first_parked):
            terminal.print_line("  ...")
    if found.problem is not None:
        terminal.print_line(found.problem)


def _version(status: ProjectionStatus) -> str:
    if status.rows_version in {None, status.version}:
        return str(status.version)
    return f"{status.version}, but its rows are of version {status.rows_version}"


def _position(status: ProjectionStatus) -> str:
    if status.log_end is None:
        return f"{status.position:,}"
    return f"{status.position:,} of {status.log_end:,}, {status.lag:,} behind"


def _rebuild(status: ProjectionStatus) -> str | None:
    if status.rebuilder is not None:
        return f"at position {status.rebuilt_to or 0:,}, by {status.rebuilder}"
    if status.rebuilt_to is not None:
        return f"interrupted at position {status.rebuilt_to:,}"
    return None


def _ago(time: datetime) -> str:
    seconds = max(0, round((utc_now() - time).total_seconds()))
    shown = f"{moment(time)} UTC"
    return f"{shown}, {seconds} s ago" if seconds < 120 else shown
