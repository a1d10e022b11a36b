"""`eventstore projection list`: the status of every projection."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.terminal import Terminal, say_json, table
from eventstore.cli.projection.status import statuses
from eventstore.projections.status import ProjectionStatus

STYLES = {"live": "green", "failed": "red", "paused": "yellow", "version changed": "yellow"}
"""How a projection's state is coloured."""


async def list_(session: ReadModelSession, json: Json = False) -> None:
    """Print the status of every projection.

    No running service is needed. Lag is how many events of the log are missing in the rows, ? if
    the server cannot be reached. With --json each line is an object.
    """
    found, problem = await statuses(session)
    if not json:
        _print(Terminal(), found, problem)
        return
    for each in found:
        say_json(each)


def _print(terminal: Terminal, found: Sequence[ProjectionStatus], problem: str | None) -> None:
    shown = table("projection")
    shown.add_column("version", justify="right")
    shown.add_column("state", no_wrap=True)
    for name in ("position", "lag", "rate/s", "parked"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in found:
        shown.add_row(
            each.name,
            str(each.version),
            Text(each.state, style=STYLES.get(each.state, "")),
            f"{each.position:,}",
            "?" if each.lag is None else f"{each.lag:,}",
            f"{each.rate:,.0f}" if each.rate >= 1 else "-",
            f"{each.parked:,}" if each.parked else "-",
        )
    terminal.print(shown)
    for each in found:
        if each.error is not None:
            terminal.print_line(f"{each.name}: {each.error}")
    for each in found:
        if each.rows_version not in {None, each.version}:
            terminal.print_line(f"{each.name}: rows of version {each.rows_version}")
    if problem is not None:
        terminal.print_line(problem)
