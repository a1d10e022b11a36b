"""The names of tables that are the library's: all with a prefix, which no other table may have.

So the library's tables and a user's own, whatever their names, are in one database.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import MetaData, Table

from eventstore.errors import ProjectionError

RESERVED_PREFIX = "eventstore_"
"""What the names of all the library's own tables begin with."""

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names for constraints: one without a name cannot be altered by a later migration."""

library_metadata = MetaData(naming_convention=NAMING_CONVENTION)
"""The library's own tables, and no others; its revisions create exactly these."""


def is_reserved(name: str) -> bool:
    """Whether a table of this name is the library's; databases may ignore the case of letters."""
    return name.lower().startswith(RESERVED_PREFIX)


def check_table_names(where: str, tables: Iterable[Table]) -> None:
    """Raise `ProjectionError`, naming them, for tables that are named as if they were ours."""
    names = [
        table.name
        for table in tables
        if is_reserved(table.name) and table.metadata is not library_metadata
    ]
    if names:
        raise ProjectionError(
            f"{where}: names that begin with {RESERVED_PREFIX} are those of the library's own "
            f"tables; rename {', '.join(names)}"
        )
