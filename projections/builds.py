"""The packages that were built from a flake, from the read models."""

from __future__ import annotations

from sqlalchemy import Connection, or_, select

from eventstore.errors import WaitTimeout
from eventstore.nix import flake_names, is_reference
from eventstore.projections.database import Database, read_checkpoints
from eventstore.projections.queries import begins
from projections.models import flake, package


async def builds_of(database: Database, flake_id: str, position: int) -> dict[str, int]:
    """The packages last built from a flake, before a position of the log, that are not stale yet.

    Maps their ids to the numbers of their builds. `eventstore.nix.flake_names` says which
    references name the flake. Raises `WaitTimeout` if the read models have not reached the
    position, or are behind it again after a reset.
    """
    async with database.engine.connect() as connection:
        reached = await connection.run_sync(_reached)
        if reached < position:
            raise WaitTimeout(position, reached, 0.0)
        path = await connection.scalar(select(flake.c.path).where(flake.c.id == flake_id))
        names = flake_names(flake_id, path or "")
        begun = [begins(package.c.flake_ref, name) for name in sorted(names)]
        candidates = select(*package.c["id", "flake_ref", "builds"]).where(
            package.c.built_position < position, ~package.c.stale, or_(*begun)
        )
        rows = (await connection.execute(candidates)).all()
    return {row.id: row.builds for row in rows if is_reference(row.flake_ref, names)}


def _reached(connection: Connection) -> int:
    """The position that both read models have reached, in this transaction."""
    names = ("flakes", "packages")
    known = read_checkpoints(connection, names)
    return min(known[name].position if name in known else 0 for name in names)
