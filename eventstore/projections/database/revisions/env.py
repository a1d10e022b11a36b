"""Alembic's entry point: runs the migrations on the connection that the caller opened."""

from __future__ import annotations

from alembic import context

from eventstore.projections.database.autogenerate import render_item
from eventstore.projections.database.library import VERSION_TABLE
from eventstore.projections.table_names import library_metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=library_metadata,
    version_table=VERSION_TABLE,
    render_item=render_item,
    # All steps run in the caller's transaction, which SQLite supports after an explicit BEGIN.
    transactional_ddl=True,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
