"""The read models of the Nix domain: one projection for each kind of aggregate."""

from __future__ import annotations

from projections.nix import configurations, flakes, modules, overlays, packages
from projections.projection import Projection

__all__ = ["nix_projections"]


def nix_projections() -> tuple[Projection, ...]:
    """All read models of the Nix domain."""
    return (
        flakes.flakes,
        packages.packages,
        modules.modules,
        overlays.overlays,
        configurations.configurations,
    )
