"""`eventstore timer fire`: make a timer due now."""

from __future__ import annotations

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.timer.show import TimerName
from eventstore.timers import Timers


async def fire(session: ClientSession, name: TimerName, json: Json = False) -> None:
    """Make a timer due now.

    Its command is carried out as always, with the same id. A recurring timer remains, and is due
    once more.
    """
    async with session.connect() as client, session.recorded(client, "timer-fire", name):
        await Timers(client, session.subjects).fire(name)
    if json:
        say_json({"fired": name})
    else:
        say(f"due now: {name}")
