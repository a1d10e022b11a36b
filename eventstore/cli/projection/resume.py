"""`eventstore projection resume`: resume projections."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.projection.pause import change_paused, say_paused
from eventstore.cli.read_models import ProjectionNames, is_there, open_read_model, projections_named
from eventstore.cli.session import Session
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database

_RETRY_TIMEOUT = 30.0


async def resume(session: ReadModelSession, names: ProjectionNames, json: Json = False) -> None:
    """Resume projections that are paused or have failed.

    Those that have failed are retried.
    """
    wanted = [each.name for each in projections_named(session, names)]
    paused = await change_paused(session, "projection-resume", remove=wanted)
    retried = await _retry(session, wanted)
    if json:
        say_json({"paused": paused, "retried": retried})
        return
    for name in retried:
        say(f"{name} had failed, and is retried")
    say_paused(paused)


async def _retry(session: Session, names: Sequence[str]) -> list[str]:
    """Have failed projections retried by their service; the names of those that had failed."""
    if not is_there(Database(session.settings.read_model.database)):
        return []  # it is on the service's machine

    def work(connection: Connection) -> list[str]:
        return [
            name
            for name in names
            if (known := checkpoint.read(connection, name)) is not None
            and known.error is not None
            and checkpoint.retry(connection, name)
        ]

    async with open_read_model(session) as database:
        return await database.transact(work, retry_timeout=_RETRY_TIMEOUT)
