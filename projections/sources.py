"""Changes to the row of a module or an overlay, both of which are named Nix source."""

from __future__ import annotations

from sqlalchemy import Table

from eventstore import RecordedEvent
from eventstore.projections import BoundStatement
from projections.rows import changed, created

__all__ = ["source_created", "source_deleted", "source_updated"]


def source_created(
    table: Table, recorded: RecordedEvent, *, name: str, content: str
) -> BoundStatement:
    """A new row."""
    return created(table, recorded, name=name, content=content, deleted=False)


def source_updated(table: Table, recorded: RecordedEvent, *, content: str) -> BoundStatement:
    """New content under the same name."""
    return changed(table, recorded, content=content)


def source_deleted(table: Table, recorded: RecordedEvent) -> BoundStatement:
    """Only the name and the mark of deletion remain."""
    return changed(table, recorded, content="", deleted=True)
