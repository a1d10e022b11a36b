"""`eventstore projection reset`: delete the rows of a projection."""

from __future__ import annotations

import typer
from sqlalchemy import Connection, func, select

from eventstore.cli.options import DatabaseSession, Json, Yes
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.read_models import ProjectionName, open_read_model, projection_named
from eventstore.cli.session import Session
from eventstore.concurrency.event_loop import run
from eventstore.messages.text import counted
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild import switch

_RETRY_TIMEOUT = 30.0


def reset(
    session: DatabaseSession, name: ProjectionName, yes: Yes = False, json: Json = False
) -> None:
    """Delete all rows of a projection.

    A service rebuilds them from the beginning of the log. Until then queries find little or
    nothing; `rebuild` has no such gap.
    """
    projection = projection_named(session, name)
    if not yes:
        count = run(_count_rows(session, projection))
        typer.confirm(f"delete {counted(count, 'row')} of {name}?", abort=True, err=json)
    deleted = run(_reset(session, projection))
    if json:
        say_json({"reset": name, "rows_deleted": deleted})
    else:
        say(f"reset: {name}, {counted(deleted, 'row')} deleted")


async def _count_rows(session: Session, projection: Projection) -> int:
    async with open_read_model(session) as database, database.engine.connect() as connection:
        return await connection.run_sync(_count, projection)


async def _reset(session: Session, projection: Projection) -> int:
    """Delete all rows and reset the checkpoint; the number of rows."""

    def work(connection: Connection) -> int:
        count = _count(connection, projection)
        switch.reset(connection, projection)
        return count

    async with open_read_model(session) as database:
        return await database.transact(work, retry_timeout=_RETRY_TIMEOUT)


def _count(connection: Connection, projection: Projection) -> int:
    return sum(
        connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in projection.tables
    )
