"""The read model of modules."""

from __future__ import annotations

from eventstore import RecordedEvent
from eventstore.nix import ModuleCreated, ModuleDeleted, ModuleUpdated
from eventstore.projections import BoundStatement, Projection
from projections.models import module
from projections.sources import source_created, source_deleted, source_updated

__all__ = ["modules"]

modules = Projection("modules", tables=[module])


@modules.handles
def module_created(event: ModuleCreated, recorded: RecordedEvent) -> BoundStatement:
    """A new module."""
    return source_created(module, recorded, name=event.name, content=event.content)


@modules.handles
def module_updated(event: ModuleUpdated, recorded: RecordedEvent) -> BoundStatement:
    """Other content."""
    return source_updated(module, recorded, content=event.content)


@modules.handles
def module_deleted(_event: ModuleDeleted, recorded: RecordedEvent) -> BoundStatement:
    """Only the name stays."""
    return source_deleted(module, recorded)
