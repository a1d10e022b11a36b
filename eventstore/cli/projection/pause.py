"""`eventstore projection pause`: pause projections."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.read_models import ProjectionNames, projections_named
from eventstore.cli.session import Session
from eventstore.service.runtime_config import RuntimeConfig


async def pause(session: ClientSession, names: ProjectionNames, json: Json = False) -> None:
    """Pause projections in all services.

    They stay paused until they are resumed.
    """
    wanted = [each.name for each in projections_named(session, names)]
    paused = await change_paused(session, "projection-pause", add=wanted)
    if json:
        say_json({"paused": paused})
    else:
        say_paused(paused)


async def change_paused(
    session: Session, action: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> list[str]:
    """Add projections to the paused ones, or remove them; returns all that are paused then."""
    target = ", ".join((*add, *remove))
    async with session.connect() as client, session.recorded(client, action, target):
        return await RuntimeConfig(client, session.subjects).change_paused(add=add, remove=remove)


def say_paused(names: Sequence[str]) -> None:
    """Print the names of paused projections."""
    say(f"paused: {', '.join(names) or '(none)'}")
