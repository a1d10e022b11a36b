"""The application of the Nix domain: its deciders, read models, queries and its process."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

from eventstore import Application, EventSubscriber, nix
from eventstore.errors import WaitTimeout
from eventstore.nix.stale_packages import stale_packages
from projections import configurations, flakes, inputs, packages, sources
from projections.builds import builds_of
from projections.queries import nix_queries
from projections.revisions import nix_migrations

if TYPE_CHECKING:
    from eventstore.application.service import RunningApplication

_READ_MODEL_SECONDS = 15.0  # less than parts may take to stop


def mark_stale_packages(service: RunningApplication) -> EventSubscriber:
    """The process that marks packages stale, by the read model as of the event or later."""

    async def known(position: int, projection: str) -> None:
        """Wait for the read model; without a timeout while the database is unavailable.

        Otherwise the event would be parked after too many attempts, though it is not poison.
        """
        while True:
            try:
                await service.wait(position, projection, _READ_MODEL_SECONDS)
            except WaitTimeout:
                if service.read_model.trouble is None:
                    raise
            else:
                return

    async def builds(flake_id: str, position: int) -> Mapping[str, int]:
        for name in ("flakes", "packages"):
            await known(position, name)
        return await builds_of(service.read_model, flake_id, position)

    return stale_packages(
        *(service.client, service.domain.codec, service.commands, builds),
        telemetry=service.telemetry,
    )


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
    subscribers=[mark_stale_packages],
    migrations=nix_migrations(),
    version=metadata.version("jetstream-eventstore"),
    description="Nix domain service for CIM",
    service="cim-domain-nix",
)
"""What `eventstore serve` runs if no other application is named."""
