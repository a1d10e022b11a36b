"""The read models of the Nix domain: one for each kind of aggregate, and one across all flakes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from eventstore.projections import Projection
from eventstore.projections.database import Migrations
from projections import configurations, flakes, inputs, packages, sources

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


@cache
def nix_migrations() -> Migrations:
    """The migrations of their tables, which in a wheel are inside of this package."""
    package = Path(__file__).resolve().parent
    inside = package / "migrations"
    return Migrations(inside if inside.is_dir() else package.parent / "migrations")
