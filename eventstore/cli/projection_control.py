"""`eventstore projection pause`, `resume` and `reset`: what is set from outside of a service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, select

from eventstore.cli.connecting import connected
from eventstore.cli.projection_status import PAUSED, is_there, opened_read_model
from eventstore.config import Settings
from eventstore.messages.subjects import Subjects
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.switch import reset
from eventstore.service.runtime_config import RuntimeConfig, Value

__all__ = ["count_rows", "pause", "reset_rows", "resume"]

_PATIENCE = 30.0


async def pause(settings: Settings, projections: Iterable[Projection]) -> list[str]:
    """Have projections stand still in all services; the names of all that do."""
    names = [each.name for each in projections]
    return await _change_paused(settings, add=names)


async def resume(
    settings: Settings, projections: Sequence[Projection]
) -> tuple[list[str], list[str]]:
    """Have projections go on; the names of those that had failed, and of those still paused."""
    paused = await _change_paused(settings, remove=[each.name for each in projections])
    if not is_there(Database(settings.read_model.database)):
        return [], paused  # it is on the service's machine
    async with opened_read_model(settings) as database:
        retried = await database.transact(
            lambda connection: [each.name for each in projections if _retry(connection, each)],
            retry_timeout=_PATIENCE,
        )
    return retried, paused


async def count_rows(settings: Settings, projection: Projection) -> int:
    """How many rows a projection has."""
    async with opened_read_model(settings) as database, database.engine.connect() as connection:
        return await connection.run_sync(_count, projection)


async def reset_rows(settings: Settings, projection: Projection) -> int:
    """Delete all rows of a projection and set it back to the beginning; how many those were."""

    def work(connection: Connection) -> int:
        count = _count(connection, projection)
        reset(connection, projection)
        return count

    async with opened_read_model(settings) as database:
        return await database.transact(work, retry_timeout=_PATIENCE)


async def _change_paused(
    settings: Settings, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> list[str]:
    def changed(value: Value | None) -> Value | None:
        names = value if isinstance(value, list) else []
        left = [name for name in dict.fromkeys([*names, *add]) if name not in remove]
        return left or None

    async with connected(settings) as client:
        configuration = RuntimeConfig(client, Subjects(settings.nats.subject_prefix))
        kept = await configuration.change(PAUSED, changed)
    return kept if isinstance(kept, list) else []


def _retry(connection: Connection, projection: Projection) -> bool:
    """Have a failed projection tried again from where it stands; whether it had failed."""
    known = checkpoint.read(connection, projection.name)
    if known is None or known.error is None:
        return False
    return checkpoint.retry(connection, projection.name)


def _count(connection: Connection, projection: Projection) -> int:
    return sum(
        connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in projection.tables
    )
