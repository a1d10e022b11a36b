"""The audit index of a read model, opened by the command line; and the log beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from eventstore import nix
from eventstore.cli.connecting import connected, log_end
from eventstore.cli.terminal import program
from eventstore.client import Client
from eventstore.config import Settings
from eventstore.errors import ClientError, StreamMissing
from projections.audit import AuditIndex, NoAuditIndex
from projections.database import Database

__all__ = ["Reach", "opened_index", "reach"]


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
    is_file = database.url.get_backend_name() == "sqlite"
    if is_file and not Path(database.url.database or "").exists():
        raise NoAuditIndex("there is no read model")


async def reach(index: AuditIndex, settings: Settings) -> Reach:
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
