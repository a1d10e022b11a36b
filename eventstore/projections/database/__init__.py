"""The read-model database: connections, tables, checkpoints, parked events, locks and migrations.

The only package that opens a database, or writes the library's own tables in it.
"""

from eventstore.projections.database.autogenerate import include_name, render_item
from eventstore.projections.database.checkpoint import Checkpoint, read_checkpoints
from eventstore.projections.database.database import Database
from eventstore.projections.database.schema import Migrations, Revisions
from eventstore.projections.database.tables import UtcDateTime, metadata
from eventstore.projections.table_names import NAMING_CONVENTION

__all__ = [
    "NAMING_CONVENTION",
    "Checkpoint",
    "Database",
    "Migrations",
    "Revisions",
    "UtcDateTime",
    "include_name",
    "metadata",
    "read_checkpoints",
    "render_item",
]
