"""The projections of the service: the Nix domain's read models, and the audit index."""

from __future__ import annotations

from projections.audit import audit
from projections.nix import nix_projections
from projections.projection import Projection

__all__ = ["read_models"]


def read_models() -> tuple[Projection, ...]:
    """All that `eventstore serve` keeps up to date."""
    return (*nix_projections(), audit)
