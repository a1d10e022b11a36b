"""`eventstore process list`: the processes that run, have ended or have failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, print_all, table
from eventstore.cli.times import moment
from eventstore.messages.envelope import utc_now
from eventstore.processes.status import Processes, ProcessStatus, ProcessStatusName
from eventstore.store.store import EventStore

STYLES = {"running": "green", "failed": "bold red"}
"""How a process's status is coloured."""


async def list_(
    session: ClientSession,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only those of one kind.")
    ] = None,
    status: Annotated[
        ProcessStatusName | None, typer.Option(help="Only those of one status.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most this many of each kind.")
    ] = 50,
    json: Json = False,
) -> None:
    """Print the processes that have recorded something last, the latest first.

    When each started and last reacted, how often, and which of its timers are waiting. One that has
    failed takes no event until retry, or until its parked event is discarded; --status failed
    finds all of these, other statuses are searched for among the latest. With --json each line is
    an object.
    """
    async with session.connect() as client, EventStore(client, session.codec) as store:
        processes = Processes(client, store, session.app.processes)
        listed = processes.list(name, failed=status == "failed", limit=limit)
        found = [each async for each in listed if status in (None, each.status)]
    print_all(found, _print, json=json, none="no process has started")


def _print(terminal: Terminal, found: Sequence[ProcessStatus]) -> None:
    shown = table("process")
    shown.add_column("key", no_wrap=True)
    for column in ("status", "started", "last", "reactions", "waits for"):
        shown.add_column(column, overflow="fold")
    for each in found:
        shown.add_row(
            *(each.process, each.key),
            Text(each.status, style=STYLES.get(each.status, "")),
            *("-" if each.started is None else moment(each.started), moment(each.last)),
            f"{each.reactions:,}",
            ", ".join(waiting(each, utc_now())) or "-",
        )
    terminal.print(shown)


def waiting(process: ProcessStatus, now: datetime) -> list[str]:
    """The timers that are waiting, each with when it is due."""
    return [f"{name} at {moment(at)}" for name, at in process.timers.items() if at > now]
