"""The read models of the Nix domain: one for each kind of aggregate, and one across all flakes.

`app` is its application: the one that `eventstore` works for if no other is named.
"""

from __future__ import annotations

from eventstore.projections import Projection
from projections.application import app
from projections.revisions import nix_migrations

__all__ = ["app", "nix_migrations", "nix_projections"]


def nix_projections() -> tuple[Projection, ...]:
    """All read models of the Nix domain."""
    return app.projections
