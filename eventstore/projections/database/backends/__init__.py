"""The supported databases: how each is opened, written and read, and what its errors mean."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from eventstore.errors import ConfigurationError, DatabaseUnavailable
from eventstore.projections.database.backends import postgresql, postgresql_connection, sqlite
from eventstore.projections.database.backends.base import Backend, cause_of, without_password

__all__ = [
    "Backend",
    "DatabaseUnavailable",
    "backend_at",
    "cause_of",
    "is_transient",
]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:")


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed: the database is locked, full or unreachable."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return sqlite.is_transient(error) or postgresql_connection.is_transient(error)


def backend_at(location: str | Path) -> Backend:
    """The database at a path or a URL, not opened yet; raises `ConfigurationError`."""
    url = _url(location)
    if url.drivername in sqlite.DRIVERS:
        return sqlite.Sqlite(url)
    if url.drivername in postgresql.DRIVERS:
        return postgresql.Postgresql(url)
    raise ConfigurationError(
        f"read model {without_password(url)!r}: {url.drivername} is not supported; use "
        "sqlite:///path or postgresql://user:password@host/database"
    )


def _url(location: str | Path) -> URL:
    text = str(location)
    if not (isinstance(location, str) and _SCHEME.match(text)):
        return URL.create("sqlite", database=text)
    try:
        return make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "the read model's location is neither a path nor a URL; write ./name for a path that "
            "has a colon"
        ) from error
