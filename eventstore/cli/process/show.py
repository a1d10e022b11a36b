"""`eventstore process show`: what one process has done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.process.list_ import STYLES, waiting
from eventstore.cli.times import moment
from eventstore.messages.envelope import utc_now
from eventstore.processes.status import Processes, ProcessStatus, ProcessStep
from eventstore.store.store import EventStore

ProcessName = Annotated[
    str, typer.Argument(metavar="NAME", help="As list prints it.", show_default=False)
]
ProcessKey = Annotated[
    str, typer.Argument(metavar="KEY", help="The key of the process.", show_default=False)
]


async def show(
    session: ClientSession, name: ProcessName, key: ProcessKey, json: Json = False
) -> None:
    """Print what one process has done.

    Each event that it has reacted to, and the commands and timers that this led to; what it has
    failed at, and which of its commands were rejected.
    """
    async with session.connect() as client, EventStore(client, session.codec) as store:
        processes = Processes(client, store, session.app.processes)
        status, steps = await processes.get(name, key), await processes.steps(name, key)
    if json:
        say_json({"status": status, "steps": steps})
    else:
        _print(Terminal(), status, steps)


def _print(terminal: Terminal, status: ProcessStatus, steps: Sequence[ProcessStep]) -> None:
    line = f"{status.process} {status.key}: {status.status}"
    terminal.print_line(line, STYLES.get(status.status, "bold"))
    terminal.facts(
        {
            "started": None if status.started is None else moment(status.started),
            "last": moment(status.last),
            "waits for": ", ".join(waiting(status, utc_now())) or None,
            "parked": ", ".join(f"{type_} ({at})" for at, type_ in status.failed.items()) or None,
        }
    )
    for step in steps:
        terminal.print()
        terminal.print_line(f"{moment(step.time)}  {_titled(step)}")
        for detail in _details(step):
            terminal.print_line(f"    {detail}")


def _titled(step: ProcessStep) -> str:
    verb = {"reacted": "", "failed": "failed at ", "rejected": "rejected: "}[step.kind]
    return f"{verb}{step.trigger}, {step.about}"


def _details(step: ProcessStep) -> Iterator[str]:
    if step.begins:
        yield "starts"
    for sent in step.sent:
        yield f"sends {sent}"
    for name, at in step.timers.items():
        yield f"sets the timer {name}, due {moment(at)}"
    for name in step.cancelled:
        yield f"cancels the timer {name}"
    if step.reason:
        yield step.reason
    if step.ends:
        yield "ends"
