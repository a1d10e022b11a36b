"""`eventstore timer show`: a timer in full."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say
from eventstore.cli.session import Session
from eventstore.messages.headers import Header
from eventstore.messages.text import printable
from eventstore.timers import Timer, Timers

TimerName = Annotated[
    str, typer.Argument(metavar="NAME", help="As list prints it; an id, if it was given no name.")
]


async def show(session: ClientSession, name: TimerName, json: Json = False) -> None:
    """Print a timer in full: when it is due, its command, and what caused it."""
    timer = await find_timer(session, name)
    if json:
        say(timer_json(timer))
    else:
        print_timer(Terminal(), timer)


async def find_timer(session: Session, name: str) -> Timer:
    """The waiting timer of a name; raises `NoTimer`."""
    async with session.connect() as client:
        return await Timers(client, session.subjects).get(name)


def timer_json(timer: Timer) -> str:
    """All that is known of a timer, as one JSON object on a line."""
    own = msgspec.to_builtins(timer)
    del own["payload"]
    facts = {"type": timer.type, "aggregate_id": timer.aggregate_id, "command_id": timer.command_id}
    return msgspec.json.encode({**own, **facts, "data": timer.data}).decode()


def print_timer(terminal: Terminal, timer: Timer) -> None:
    """Print a timer for people."""
    headers, recurs = timer.headers, f"{timer.schedule} {timer.time_zone or 'UTC'}"
    terminal.print_line(timer.name)
    terminal.facts(
        {
            "due": None if timer.due is None else timer.due.isoformat(timespec="milliseconds"),
            "schedule": recurs if timer.is_recurring else None,
            "command": f"{timer.type} {timer.command_id or '(an id each time)'}",
            timer.aggregate: timer.aggregate_id or "(a new one each time)",
            "set": headers.get(Header.TIMESTAMP),
            "actor": headers.get(Header.ACTOR),
            "caused by": headers.get(Header.CAUSATION_ID),
            "part of": headers.get(Header.CORRELATION_ID),
        }
    )
    terminal.print_line(f"payload, {len(timer.payload):,} bytes")
    terminal.print_line(f"  {printable(timer.payload.decode(errors='replace'))}")
