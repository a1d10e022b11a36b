"""The read models of the Nix domain: one for each kind of aggregate, and one across all flakes."""

from __future__ import annotations

from eventstore.projections import Projection
from projections import configurations, flakes, inputs, packages, sources
from projections.revisions import nix_migrations

__all__ = ["nix_migrations", "nix_projections"]


def nix_projections() -> tuple[Projection, ...]:
    """All read models of the Nix domain."""
    return (
        flakes.flakes,
        inputs.inputs,
        packages.packages,
        sources.modules,
        sources.overlays,
        configurations.configurations,
    )
