"""Connections to PostgreSQL by asyncpg, and what their errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DBAPIError

from eventstore.projections.database.backends.base import cause_of

if TYPE_CHECKING:
    import asyncpg

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 900.0
"""How long a statement may take before its connection counts as lost; about as long as TCP's."""

_STARTING = {"53300", "57P03"}  # too many connections, starting up or shutting down
_TRANSIENT_CLASSES = {"08", "40", "53", "58"}  # connection, rollback, resources, system
_TRANSIENT = {
    "25006",  # read-only, as a standby is
    "25P03",  # idle for too long in a transaction
    "55P03",  # locked
    "57014",  # took longer than the server allows
    "57P01",  # shut down
    "57P02",  # crashed
    "57P03",  # starting up
    "57P05",  # idle for too long
}


async def open_connection(location: str, setup: str) -> asyncpg.Connection:
    """A connection that is set up; errors are raised as those that SQLAlchemy knows."""
    import asyncpg
    from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

    try:
        return await _set_up(
            await asyncpg.connect(
                location, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS
            ),
            setup,
        )
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        cause = error
        if isinstance(error, OSError):
            words = str(error) or f"no answer in {CONNECT_SECONDS:g} s"
            cause = asyncpg.exceptions.ClientCannotConnectError(words)
        dbapi: Any = PGDialect_asyncpg.import_dbapi()  # type: ignore[no-untyped-call]
        raise dbapi.OperationalError(str(cause), cause) from cause


async def _set_up(connection: asyncpg.Connection, setup: str) -> asyncpg.Connection:
    try:
        await connection.execute(setup)
        for kind in ("text", "varchar"):
            await connection.set_type_codec(
                kind, schema="pg_catalog", encoder=_without_nul, decoder=str
            )
    except BaseException:
        connection.terminate()
        raise
    return connection


def _without_nul(value: str) -> str:
    return value.replace("\0", "\ufffd")


def on_error(context: ExceptionContext) -> None:
    """Report a statement without an answer as a lost connection."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True
        raise no_answer(context.statement) from context.original_exception


def no_answer(statement: str | None = None) -> DBAPIError:
    """The error of a connection whose server does not answer."""
    cause = ConnectionError(f"no answer in {COMMAND_SECONDS:g} s")
    return DBAPIError(statement, None, cause, connection_invalidated=True)


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed, by the SQLSTATE.

    The server is unreachable, locked or full, or another transaction was faster.
    """
    if type(cause_of(error)).__name__ == "InvalidCachedStatementError":
        return True  # another process has recreated a table; a new statement finds that
    state = _sqlstate(error)
    return state in _TRANSIENT or state[:2] in _TRANSIENT_CLASSES


def is_starting(error: BaseException) -> bool:
    """Whether the server is starting up, or has too many clients at the moment."""
    return _sqlstate(error) in _STARTING


def _sqlstate(error: BaseException) -> str:
    # Of the driver's error, for SQLAlchemy's has none before 2.1.
    return str(getattr(cause_of(error), "sqlstate", None) or "")
