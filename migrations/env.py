"""Alembic's entry: runs the migrations on the connection that the caller opened."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from eventstore.projections.audit import models as _audit_tables  # noqa: F401  # they register in `metadata`
from eventstore.projections.database.tables import UtcDateTime, metadata
from projections import models as _nix_tables  # noqa: F401  # they register in `metadata`


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write a migration without our own types, which may have changed when it runs."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_item=render_item,
    # The caller's transaction holds all of it; SQLite can do that once told to begin.
    transactional_ddl=True,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
