"""What happens to the row of a named piece of Nix source, be it a module or an overlay."""

from __future__ import annotations

from sqlalchemy import Table

from eventstore import RecordedEvent
from eventstore.projections import BoundStatement
from projections.rows import changed, created

__all__ = ["source_created", "source_deleted", "source_updated"]


def source_created(
    table: Table, recorded: RecordedEvent, *, name: str, content: str
) -> BoundStatement:
    """A new piece."""
    return created(table, recorded, name=name, content=content, deleted=False)


def source_updated(table: Table, recorded: RecordedEvent, *, content: str) -> BoundStatement:
    """Other content under the same name."""
    return changed(table, recorded, content=content)


def source_deleted(table: Table, recorded: RecordedEvent) -> BoundStatement:
    """Only the name stays, and that there was something."""
    return changed(table, recorded, content="", deleted=True)
