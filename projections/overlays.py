"""The read model of overlays."""

from __future__ import annotations

from eventstore import RecordedEvent
from eventstore.nix import OverlayCreated, OverlayDeleted, OverlayUpdated
from eventstore.projections import BoundStatement, Projection
from projections.models import overlay
from projections.sources import source_created, source_deleted, source_updated

__all__ = ["overlays"]

overlays = Projection("overlays", tables=[overlay])


@overlays.handles
def overlay_created(event: OverlayCreated, recorded: RecordedEvent) -> BoundStatement:
    """A new overlay."""
    return source_created(overlay, recorded, name=event.name, content=event.content)


@overlays.handles
def overlay_updated(event: OverlayUpdated, recorded: RecordedEvent) -> BoundStatement:
    """Other content."""
    return source_updated(overlay, recorded, content=event.content)


@overlays.handles
def overlay_deleted(_event: OverlayDeleted, recorded: RecordedEvent) -> BoundStatement:
    """Only the name stays."""
    return source_deleted(overlay, recorded)
