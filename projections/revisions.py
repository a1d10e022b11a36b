"""The migrations of the Nix domain's tables, as those of any application."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from eventstore.projections.database import Migrations


@cache
def nix_migrations() -> Migrations:
    """The scripts in `migrations/`: beside this package, or in a wheel inside of it.

    Raises `MigrationError` if they are in neither.
    """
    package = Path(__file__).resolve().parent
    inside = package / "migrations"
    return Migrations(inside if inside.is_dir() else package.parent / "migrations")
