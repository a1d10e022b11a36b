"""`eventstore timer list`: the timers that wait."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say, table
from eventstore.cli.timer.show import timer_json
from eventstore.cli.times import moment
from eventstore.messages.text import printable
from eventstore.timers import Timer, Timers


async def list_(
    session: ClientSession,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most as many.")] = 1_000,
    json: Json = False,
) -> None:
    """List the timers that wait, in the order in which they were set.

    A timer of a user of another account is called USER:NAME. With --json each line is an object.
    How many more there are than --limit is printed to standard error.
    """
    found: list[Timer] = []
    async with session.connect() as client:
        timers = Timers(client, session.subjects)
        async with aclosing(timers.read()) as waiting:
            async for timer in waiting:
                found.append(timer)
                if json and not say(timer_json(timer)):
                    return
                if len(found) == limit:
                    break
        left = (await timers.counts()).waiting - len(found)
    if found and not json:
        _print(found)
    if left > 0 or not (found or json):
        Terminal(stderr=True).print_line(f"{left:,} more" if found else "no timer is waiting")


def _print(timers: list[Timer]) -> None:
    shown = table("timer", "due", "in", "command", "id")
    now = datetime.now(UTC)
    for each in timers:
        shown.add_row(
            each.name,
            printable(when(each)),
            "" if each.due is None else remaining((each.due - now).total_seconds()),
            printable(f"{each.aggregate}.{each.action}"),
            printable(each.aggregate_id or "-"),
        )
    Terminal().print(shown)


def when(timer: Timer) -> str:
    """When a timer is due, for people."""
    if timer.due is not None:
        return f"{moment(timer.due)}Z"
    return f"{timer.schedule} {timer.time_zone or 'UTC'}"


def remaining(seconds: float) -> str:
    """How long it is until then, in the two largest units; `overdue` if that is past."""
    if seconds < 0:
        return "overdue"
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while len(units) > 1 and units[0][0] == 0:
        units.pop(0)
    return " ".join(f"{count}{unit}" for count, unit in units[:2])
