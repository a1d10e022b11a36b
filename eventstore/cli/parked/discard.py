"""`eventstore parked discard`: delete a parked message."""

from __future__ import annotations

import typer

from eventstore.cli.options import ClientSession, Json, Yes
from eventstore.cli.output.terminal import Terminal, say, say_json
from eventstore.cli.parked.show import ParkedSequence, find_parked, print_parked
from eventstore.cli.session import Session
from eventstore.concurrency.event_loop import run
from eventstore.parking.messages import ParkedMessages


def discard(
    session: ClientSession, sequence: ParkedSequence, yes: Yes = False, json: Json = False
) -> None:
    """Delete a parked message permanently.

    Prints it, and asks for confirmation first.
    """
    if not yes:
        print_parked(Terminal(stderr=json), run(find_parked(session, sequence)))
        typer.confirm("discard it permanently?", abort=True, err=json)
    run(_discard(session, sequence))
    if json:
        say_json({"discarded": sequence})
    else:
        say(f"discarded: {sequence}")


async def _discard(session: Session, sequence: int) -> None:
    async with session.connect() as client, session.recorded(client, "parked-discard", sequence):
        await ParkedMessages(client, session.subjects).discard(sequence)
