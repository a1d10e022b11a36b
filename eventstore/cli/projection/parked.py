"""`eventstore projection parked`: the events that a projection has parked."""

from __future__ import annotations

from eventstore.cli.options import DatabaseSession, Json
from eventstore.cli.output.terminal import Terminal, say, say_json
from eventstore.cli.read_models import ProjectionName, open_read_model, projection_named
from eventstore.messages.text import printable
from eventstore.projections.database.parking import ParkedEvent
from eventstore.projections.worker.parked_events import parked_events


async def parked(session: DatabaseSession, name: ProjectionName, json: Json = False) -> None:
    """List the events that a projection has parked.

    They are missing in its rows. One that could not be applied has an error; later ones of its
    aggregate wait for it. Oldest first; with --json each line is an object.
    """
    projection = projection_named(session, name)
    async with open_read_model(session) as database:
        found = await parked_events(database, projection.name)
    for each in found:
        if json:
            say_json(each)
        else:
            say(parked_line(each))
    if not found and not json:
        Terminal(stderr=True).print_line(f"nothing is parked in {name}")


def parked_line(event: ParkedEvent) -> str:
    """A parked event on one line."""
    why = "waits for an older event of its aggregate" if event.error is None else event.error
    return printable(
        f"{event.position:>6}  {event.event_type} {event.aggregate} {event.aggregate_id}  "
        f"{event.tries}x  {why}"
    )
