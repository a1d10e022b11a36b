"""Alembic's entry point: runs the migrations on the connection that the caller opened."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

import eventstore.projections.audit  # noqa: F401  # its tables register in `metadata`
import projections  # noqa: F401  # its tables register in `metadata`
from eventstore.projections.database import UtcDateTime, metadata


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write a migration without our own types, which may have changed when it runs."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_item=render_item,
    # All steps run in the caller's transaction, which SQLite supports after an explicit BEGIN.
    transactional_ddl=True,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
