"""The read-model database: connections, tables, checkpoints, parked events, locks and migrations.

The only package that opens a database, or writes the library's own tables in it.
"""

from eventstore.projections.database.backends import DatabaseUnavailable
from eventstore.projections.database.checkpoint import Checkpoint, read_checkpoints
from eventstore.projections.database.database import Database
from eventstore.projections.database.schema import Revisions
from eventstore.projections.database.tables import UtcDateTime, metadata

__all__ = [
    "Checkpoint",
    "Database",
    "DatabaseUnavailable",
    "Revisions",
    "UtcDateTime",
    "metadata",
    "read_checkpoints",
]
