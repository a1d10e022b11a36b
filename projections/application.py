"""The application of the Nix domain: its deciders, read models, queries and its process."""

from __future__ import annotations

from importlib import metadata

from eventstore import Application, nix
from eventstore.nix.stale_builds import stale_builds
from projections import configurations, flakes, inputs, packages, sources
from projections.queries import nix_queries
from projections.revisions import nix_migrations

app = Application(
    "nix",
    nix.DECIDERS,
    projections=[
        flakes.flakes,
        inputs.inputs,
        packages.packages,
        sources.modules,
        sources.overlays,
        configurations.configurations,
    ],
    queries=nix_queries(),
    processes=[stale_builds],
    migrations=nix_migrations(),
    version=metadata.version("jetstream-eventstore"),
    description="Nix domain service for CIM",
    service="cim-domain-nix",
)
"""What `eventstore serve` runs if no other application is named."""
