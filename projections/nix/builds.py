"""Which packages were built from a flake, as the read models know it."""

from __future__ import annotations

from sqlalchemy import or_, select

from eventstore.nix import flake_names, is_reference
from projections.database import Database
from projections.nix.models import flake, package

__all__ = ["builds_of"]


async def builds_of(database: Database, flake_id: str, position: int) -> dict[str, int]:
    """The packages built last from a flake, before a position of the log, and not stale yet.

    Maps their ids to the numbers of their builds. Which references name the flake is said in
    `eventstore.nix.reference`. The read models must have come to the position.
    """
    async with database.engine.connect() as connection:
        path = await connection.scalar(select(flake.c.path).where(flake.c.id == flake_id))
        names = flake_names(flake_id, path or "")
        begins = [package.c.flake_ref.startswith(name, autoescape=True) for name in sorted(names)]
        candidates = select(*package.c["id", "flake_ref", "builds"]).where(
            package.c.built_position < position, ~package.c.stale, or_(*begins)
        )
        rows = (await connection.execute(candidates)).all()
    return {row.id: row.builds for row in rows if is_reference(row.flake_ref, names)}
