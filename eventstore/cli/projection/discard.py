"""`eventstore projection discard`: give up a parked event."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import DatabaseSession, Json, Yes
from eventstore.cli.output.terminal import Terminal, say, say_json
from eventstore.cli.projection.parked import parked_line
from eventstore.cli.read_models import ProjectionName, open_read_model, projection_named
from eventstore.cli.session import Session
from eventstore.concurrency.event_loop import run
from eventstore.errors import NotParked
from eventstore.projections.database.parking import ParkedEvent
from eventstore.projections.projection import Projection
from eventstore.projections.worker import parked_events


def discard(
    session: DatabaseSession,
    name: ProjectionName,
    position: Annotated[
        int, typer.Argument(metavar="POSITION", min=1, help="The number that parked prints first.")
    ],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Give up a parked event permanently.

    It stays in the log, but is missing in the rows. Events that wait for it stay parked until they
    are retried.
    """
    projection = projection_named(session, name)
    if not yes:
        Terminal(stderr=json).print_line(parked_line(run(_find(session, projection, position))))
        question = f"give up the event at {position:,} in {name} permanently?"
        typer.confirm(question, abort=True, err=json)
    run(_discard(session, projection, position))
    if json:
        say_json({"projection": name, "discarded": position})
    else:
        say(f"discarded: {position}")


async def _find(session: Session, projection: Projection, position: int) -> ParkedEvent:
    async with open_read_model(session) as database:
        for each in await parked_events.parked_events(database, projection.name):
            if each.position == position:
                return each
    raise NotParked(position, f"projection {projection.name} has parked nothing there")


async def _discard(session: Session, projection: Projection, position: int) -> None:
    async with open_read_model(session) as database:
        await parked_events.discard(database, projection.name, position)
