"""`eventstore subscriber show`: the details of one subscriber."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.subscriber.list_ import STYLES
from eventstore.subscribers.status import Subscribers, SubscriberStatus

SubscriberName = Annotated[
    str, typer.Argument(metavar="NAME", help="As list prints it.", show_default=False)
]


async def show(session: ClientSession, name: SubscriberName, json: Json = False) -> None:
    """Print the details of one subscriber.

    Its position, what is left, what is parked, and what it subscribes to.
    """
    async with session.connect() as client:
        found = await Subscribers(client, session.subjects).get(name)
    if json:
        say_json(found)
    else:
        _print(Terminal(), found)


def _print(terminal: Terminal, found: SubscriberStatus) -> None:
    terminal.print_line(f"{found.name}: {found.state}", STYLES.get(found.state, ""))
    terminal.facts(
        {
            "position": f"{found.position:,}, {found.lag:,} behind",
            "started": f"after {found.start:,}" if found.start else None,
            "delivered": f"{found.unacknowledged:,}" if found.unacknowledged else None,
            "repeated": f"{found.redelivered:,}" if found.redelivered else None,
            "parked": None if found.parked is None else f"{found.parked:,}",
            "continues": found.continues,
            "renamed": found.continued_by,
        }
    )
    terminal.print_line("subscribes to")
    for subject in found.subjects:
        terminal.print_line(f"  {subject}")
