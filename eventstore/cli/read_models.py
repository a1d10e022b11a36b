"""The projections of the service: the Nix domain's read models, and the audit index."""

from __future__ import annotations

from eventstore.projections.audit import audit
from eventstore.projections.projection import Projection
from projections import nix_projections

__all__ = ["read_models"]


def read_models() -> tuple[Projection, ...]:
    """All that `eventstore serve` keeps up to date."""
    return (*nix_projections(), audit)
