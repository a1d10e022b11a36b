"""Alembic's entry point: runs the migrations on the connection that the caller opened."""

from __future__ import annotations

from alembic import context

from eventstore.projections.database import include_name, render_item
from projections.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_name=include_name,
    render_item=render_item,
    # All steps run in the caller's transaction, which SQLite supports after an explicit BEGIN.
    transactional_ddl=True,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
