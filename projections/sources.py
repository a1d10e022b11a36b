"""The read models of modules and overlays, both of which are named Nix source."""

from __future__ import annotations

from eventstore import RecordedEvent, nix
from eventstore.projections import BoundStatement, Projection
from projections.models import module, overlay
from projections.rows import changed, created

modules = Projection("modules", tables=[module])
overlays = Projection("overlays", tables=[overlay])


@modules.handles
def module_created(event: nix.ModuleCreated, recorded: RecordedEvent) -> BoundStatement:
    """A new module."""
    return created(module, recorded, name=event.name, content=event.content, deleted=False)


@modules.handles
def module_updated(event: nix.ModuleUpdated, recorded: RecordedEvent) -> BoundStatement:
    """New content."""
    return changed(module, recorded, content=event.content)


@modules.handles
def module_deleted(_event: nix.ModuleDeleted, recorded: RecordedEvent) -> BoundStatement:
    """Only the name remains."""
    return changed(module, recorded, content="", deleted=True)


@overlays.handles
def overlay_created(event: nix.OverlayCreated, recorded: RecordedEvent) -> BoundStatement:
    """A new overlay."""
    return created(overlay, recorded, name=event.name, content=event.content, deleted=False)


@overlays.handles
def overlay_updated(event: nix.OverlayUpdated, recorded: RecordedEvent) -> BoundStatement:
    """New content."""
    return changed(overlay, recorded, content=event.content)


@overlays.handles
def overlay_deleted(_event: nix.OverlayDeleted, recorded: RecordedEvent) -> BoundStatement:
    """Only the name remains."""
    return changed(overlay, recorded, content="", deleted=True)
