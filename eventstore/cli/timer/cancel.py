"""`eventstore timer cancel`: cancel a timer."""

from __future__ import annotations

import typer

from eventstore.cli.options import ClientSession, Json, Yes
from eventstore.cli.output.terminal import Terminal, say, say_json
from eventstore.cli.session import Session
from eventstore.cli.timer.show import TimerName, find_timer, print_timer
from eventstore.concurrency.event_loop import run
from eventstore.errors import NoTimer
from eventstore.timers import Timers


def cancel(session: ClientSession, name: TimerName, yes: Yes = False, json: Json = False) -> None:
    """Cancel a timer: its command will not be carried out.

    Prints it, and asks for confirmation first.
    """
    if not yes:
        print_timer(Terminal(stderr=json), run(find_timer(session, name)))
        typer.confirm("cancel it?", abort=True, err=json)
    run(_cancel(session, name))
    if json:
        say_json({"cancelled": name})
    else:
        say(f"cancelled: {name}")


async def _cancel(session: Session, name: str) -> None:
    async with session.connect() as client, session.recorded(client, "timer-cancel", name):
        if not await Timers(client, session.subjects).cancel(name):
            raise NoTimer(f"no timer {name} is waiting, or it is due in this moment")
