"""`eventstore subscriber list`: the status of every subscriber."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, print_all, table
from eventstore.subscribers.status import Subscribers, SubscriberStatus

STYLES = {"running": "green", "stopped": "yellow"}
"""How a subscriber's state is coloured."""


async def list_(session: ClientSession, json: Json = False) -> None:
    """Print the status of every subscriber.

    Those whose processes are stopped, or that another name continues, are among them. Position is
    where all events of the log up to it are handled or parked; lag is how many published events are
    not. With --json each line is an object.
    """
    async with session.connect() as client:
        found = await Subscribers(client, session.subjects).list()
    print_all(found, _print, json=json, none="no subscriber has run")


def _print(terminal: Terminal, found: Sequence[SubscriberStatus]) -> None:
    shown = table("subscriber")
    shown.add_column("state", no_wrap=True)
    for name in ("position", "lag", "parked"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in found:
        shown.add_row(
            each.name,
            Text(each.state, style=STYLES.get(each.state, "")),
            f"{each.position:,}",
            f"{each.lag:,}",
            "?" if each.parked is None else f"{each.parked:,}" if each.parked else "-",
        )
    terminal.print(shown)
