"""The library's own tables: their revisions, which are no business of an application's Alembic.

Their numbers continue those of releases in which the library's tables and those of the shipped
domain had revisions in common, 0001 to 0005. A database of such a release comes over by itself.

Two releases work on the same tables while services are upgraded one after another. So a revision
whose script says `expands = True` only adds what earlier releases do not miss, and they go on using
the tables; what they need is removed by a later revision, in a later release. The table
`eventstore_revision` records the last revision that a release has to know, which is all that
releases until 0009 look at, and `eventstore_schema` records the newest one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert

from eventstore.errors import MigrationError
from eventstore.projections.database import legacy
from eventstore.projections.database.recorded import recorded_revisions
from eventstore.projections.database.schema import Migrations, Revisions
from eventstore.projections.database.tables import required_revision

if TYPE_CHECKING:  # where nothing is migrated, Alembic is not loaded
    from alembic.config import Config
    from alembic.script import ScriptDirectory

VERSION_TABLE = "eventstore_schema"


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

    def found(self, connection: Connection) -> tuple[str, ...]:
        """The revision that the database records; releases until 0009 had one table for it."""
        return super().found(connection) or self.required(connection)

    def required(self, connection: Connection) -> tuple[str, ...]:
        """The last revision that did more than add what earlier releases do not miss."""
        return recorded_revisions(connection, required_revision.name)

    def unknown(self, revision: str) -> MigrationError:
        """The error for a revision that is none of the scripts'."""
        return legacy.made_by_newer(revision)

    def _upgrade(self, config: Config, revision: str) -> None:
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory

        connection: Connection = config.attributes["connection"]
        if self.revisions(connection).is_newer:
            return
        scripts = ScriptDirectory.from_config(config)
        if not super().found(connection):
            for recorded in self.required(connection):
                options = {"version_table": self.version_table}
                MigrationContext.configure(connection, opts=options).stamp(scripts, recorded)
        super()._upgrade(config, revision)
        connection.execute(delete(required_revision))
        connection.execute(insert(required_revision).values(version_num=_last_required(scripts)))


def _last_required(scripts: ScriptDirectory) -> str:
    newest_first = scripts.walk_revisions()
    return next(each.revision for each in newest_first if not hasattr(each.module, "expands"))


LIBRARY = LibraryMigrations()
"""Those of this release."""
