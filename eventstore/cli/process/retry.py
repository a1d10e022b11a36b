"""`eventstore process retry`: have failed processes react once more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.process.show import ProcessName
from eventstore.errors import ParkedError
from eventstore.parking.messages import ParkedMessage, ParkedMessages
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
    retried, left = 0, dict[int, str]()
    async with session.connect() as client, EventStore(client, session.codec) as store:
        processes = Processes(client, store, session.app.processes)
        parking = ParkedMessages(client, session.subjects)
        # What a retry leads to may be parked behind others in the meantime: until none is new.
        while found := [
            each for each in await _parked(processes, name, key) if each.sequence not in left
        ]:
            for each in found:
                try:
                    await parking.retry(each.sequence, out_of_order=True, timeout=timeout)
                except ParkedError as error:
                    left[each.sequence] = str(error)
                else:
                    retried += 1
    if json:
        say_json({"retried": retried, "left": left})
    else:
        terminal = Terminal()
        terminal.print_line(f"{retried} reacted to, {len(left)} left")
        for sequence, reason in left.items():
            terminal.print_line(f"  {sequence}: {reason}")
    raise typer.Exit(1 if left else 0)


async def _parked(processes: Processes, name: str, key: str | None) -> Sequence[ParkedMessage]:
    """The parked events of all processes of a kind, or of one."""
    every = await processes.parked(name)
    if key is None:
        return every
    failed = (await processes.get(name, key)).failed
    return [each for each in every if each.sequence in failed]
