"""`eventstore process retry`: have failed processes react once more."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.process.show import ProcessName
from eventstore.parking.messages import ParkedMessages
from eventstore.processes import retry_failed
from eventstore.processes.status import Processes
from eventstore.store.store import EventStore


async def retry(
    session: ClientSession,
    name: ProcessName,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Only one of them.", show_default=False)
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.001, help="How long to wait for each event."),
    ] = 30.0,
    json: Json = False,
) -> None:
    """Have failed processes react once more to their parked events.

    In the order of the log; the service must be running. Those that fail again stay parked, with
    the events that wait for them. Ends with status 0, 1 if some stay parked, 2 for an error. As
    JSON it is one object: retried is a number, and left has the reasons by sequence.
    """
    target = name if key is None else f"{name}/{key}"
    async with (
        session.connect() as client,
        EventStore(client, session.codec) as store,
        session.recorded(client, "process-retry", target),
    ):
        processes = Processes(client, store, session.app.processes)
        parking = ParkedMessages(client, session.subjects)
        done = await retry_failed(parking, partial(_parked, processes, name, key), timeout=timeout)
    if json:
        say_json({"retried": done.retried, "left": done.left})
    else:
        terminal = Terminal()
        terminal.print_line(f"{done.retried} reacted to, {len(done.left)} left")
        for sequence, reason in done.left.items():
            terminal.print_line(f"  {sequence}: {reason}")
    raise typer.Exit(1 if done.left else 0)


async def _parked(processes: Processes, name: str, key: str | None) -> Iterable[int]:
    """The parked events of all processes of a kind, or of one."""
    if key is None:
        return [each.sequence for each in await processes.parked(name)]
    return (await processes.get(name, key)).failed
