"""The read-model database: tables, transactions, checkpoints, locks and migrations.

The only room that connects to a database and knows its driver.
"""

from eventstore.projections.database.checkpoint import Checkpoint, read_checkpoints
from eventstore.projections.database.database import Database, DatabaseUnavailable
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
