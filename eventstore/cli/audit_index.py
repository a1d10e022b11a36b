"""The audit index of a read model, opened by the command line; and the log beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from eventstore import nix
from eventstore.audit import AuditEntry, CausationTree, SearchAudit, TraceCorrelation
from eventstore.cli.connecting import connected, log_end
from eventstore.cli.terminal import program
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.config import Settings
from eventstore.errors import ClientError, StreamMissing
from eventstore.messages.queries import Listed
from eventstore.messages.subjects import Subjects
from eventstore.projections.audit import AuditIndex, NoAuditIndex
from eventstore.projections.database.database import Database

__all__ = ["Reach", "asked_index", "opened_index", "reach"]


class Reach(Struct, frozen=True):
    """How far the index has come: `position` of it and `end` of the log, None if not known."""

    position: int
    end: int | None

    @property
    def about(self) -> str | None:
        """What to say of it; None where the index reflects the whole log."""
        if self.end is None:
            return f"the index reflects the log up to position {self.position}"
        if self.end <= self.position:
            return None
        return f"the index reflects the log up to position {self.position} of {self.end}"


class ServiceIndex:
    """The audit index of a running service, which is asked by queries."""

    def __init__(self, queries: QueryClient) -> None:
        self._queries = queries

    async def position(self) -> int:
        """The position of the log up to which there are entries."""
        return (await self._queries.ask(SearchAudit(limit=1))).position

    async def trace(self, query: TraceCorrelation) -> CausationTree:
        """The story; raises `QueryNotFound` and as `QueryClient` does."""
        return (await self._queries.ask(query)).data

    async def search(self, query: SearchAudit) -> Listed[AuditEntry]:
        """The entries that fit; raises as `QueryClient` does."""
        return (await self._queries.ask(query)).data


@asynccontextmanager
async def asked_index(settings: Settings) -> AsyncIterator[AuditIndex | ServiceIndex]:
    """The index of the read model that the settings name, or else of the service they name.

    The service is asked where there is no such read model, as on the machine of an auditor. Raises
    what `opened_index` raises where no server is named either, and `ClientError`.
    """
    if settings.nats.url and not _is_there(Database(settings.read_model.database)):
        async with connected(settings) as client:
            yield ServiceIndex(QueryClient(client, Subjects(settings.nats.subject_prefix)))
    else:
        async with opened_index(settings) as index:
            yield index


@asynccontextmanager
async def opened_index(settings: Settings) -> AsyncIterator[AuditIndex]:
    """The index of the read model that the settings name.

    Raises `NoAuditIndex`, saying what to do, and what opening a database raises.
    """
    database = Database(settings.read_model.database)
    try:
        _check_there(database)
        async with database:
            yield AuditIndex(database.engine)
    except NoAuditIndex as error:
        raise NoAuditIndex(
            f"{database.name}: {error}; start `{program()} serve`, which builds it, or name "
            "another with --database or --dir"
        ) from error


def _check_there(database: Database) -> None:
    """Raise `NoAuditIndex` for a file that is not there, which opening it would make."""
    if not _is_there(database):
        raise NoAuditIndex("there is no read model")


def _is_there(database: Database) -> bool:
    is_file = database.url.get_backend_name() == "sqlite"
    return not is_file or Path(database.url.database or "").exists()


async def reach(index: AuditIndex | ServiceIndex, settings: Settings) -> Reach:
    """How far the index has come; raises `NoAuditIndex`."""
    position = await index.position()
    try:
        async with connected(settings) as client:
            return Reach(position, await end_of_log(client, settings))
    except (ClientError, StreamMissing):  # the index answers all the same
        return Reach(position, None)


async def end_of_log(client: Client, settings: Settings) -> int:
    """The position of the last event in the log; raises `ClientError`."""
    return await log_end(client, nix.domain(settings.nats.subject_prefix).codec)
