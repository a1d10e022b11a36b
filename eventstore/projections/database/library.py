"""The library's own tables: their revisions, which are no business of an application's Alembic.

Their numbers continue those of releases in which the library's tables and those of the shipped
domain had revisions in common, 0001 to 0005. A database of such a release comes over by itself.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from eventstore.errors import MigrationError
from eventstore.projections.database import legacy
from eventstore.projections.database.schema import Migrations, Revisions

VERSION_TABLE = "eventstore_revision"


class LibraryMigrations(Migrations):
    """The migrations of the library's own tables."""

    subject = "the read-model database"

    def __init__(self) -> None:
        self.scripts = Path(__file__).with_name("revisions")
        self.version_table = VERSION_TABLE

    def revisions(self, connection: Connection) -> Revisions:
        """The revision of the tables, and the newest; for old names, that of the old release."""
        at = super().revisions(connection)
        return at if at.found else Revisions(legacy.revision(connection), at.newest)

    def unknown(self, revision: str) -> MigrationError:
        """The error for a revision that is none of the scripts'."""
        return legacy.made_by_newer(revision)


LIBRARY = LibraryMigrations()
"""Those of this release."""
