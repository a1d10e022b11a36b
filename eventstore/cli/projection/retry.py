"""`eventstore projection retry`: apply parked events."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.projection.parked import parked_line
from eventstore.cli.read_models import ProjectionName, open_read_model, projection_named
from eventstore.projections.worker import parked_events


async def retry(
    session: ReadModelSession,
    name: ProjectionName,
    position: Annotated[
        int | None,
        typer.Argument(metavar="POSITION", min=1, help="Only this event's aggregate."),
    ] = None,
    json: Json = False,
) -> None:
    """Apply parked events with the current code.

    In order for each aggregate. Ends with status 0, 1 if some stay parked, 2 for an error.
    """
    projection = projection_named(session, name)
    target = name if position is None else f"{name} {position}"
    async with (
        open_read_model(session) as database,
        session.open_store("projection-retry", target) as store,
    ):
        result = await parked_events.retry(store, database, projection, position)
    if json:
        retried, left = ([each.position for each in some] for some in (result.retried, result.left))
        say_json({"projection": name, "retried": retried, "left": left})
    else:
        say(f"{len(result.retried)} applied, {len(result.left)} left")
        for each in result.left:
            say(parked_line(each))
    raise typer.Exit(1 if result.left else 0)
