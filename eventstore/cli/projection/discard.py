"""`eventstore projection discard`: give up a parked event."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import DatabaseSession, Yes
from eventstore.cli.output.terminal import say
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
) -> None:
    """Give up a parked event permanently.

    It stays in the log, but is missing in the rows. Events that wait for it stay parked until they
    are retried.
    """
    projection = projection_named(session, name)
    if not yes:
        say(parked_line(run(_find(session, projection, position))))
        typer.confirm(f"give up the event at {position:,} in {name} permanently?", abort=True)
    run(_discard(session, projection, position))
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
