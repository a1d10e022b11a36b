"""The read models of the service: the Nix domain's projections, and the audit index."""

from __future__ import annotations

from eventstore.projections.audit import audit
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from projections import nix_projections

__all__ = ["is_there", "read_models"]


def read_models() -> tuple[Projection, ...]:
    """All projections that `eventstore serve` keeps up to date."""
    return (*nix_projections(), audit)


def is_there(database: Database) -> bool:
    """Whether the database exists; True for one that is no file, which is known when it opens."""
    return database.path is None or database.path.exists()
