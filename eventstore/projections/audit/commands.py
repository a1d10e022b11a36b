"""The command collector: indexes every command with its outcome, read from the outcomes' bucket.

A rejected command leaves no event, so these rows cannot be rebuilt from the log, and no rebuild
touches them. They outlive the bucket, which expires an outcome after
`streams.outcome_max_age_days`; one that expires before it is collected is lost.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Insert, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from eventstore.client.client import Client
from eventstore.commands.outcome_log import OutcomeLog, OutcomePage, OutcomeRecord
from eventstore.concurrency.backoff import Backoff, pause
from eventstore.concurrency.failures import ungrouped
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import EventStoreError, ProjectionFenced, WaitTimeout
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe, storable
from eventstore.projections.audit.models import audit_command, audit_outcomes
from eventstore.projections.database import prepared
from eventstore.projections.database.backends.base import cause_of
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import Locks, locks_of
from eventstore.service.health import CheckResult

_move = (
    update(audit_outcomes)
    .where(
        audit_outcomes.c.bucket == bindparam("own"),
        audit_outcomes.c.made == bindparam("made_then"),
        audit_outcomes.c.sequence == bindparam("start"),
    )
    .values(sequence=bindparam("end"))
)


def _replacing(insert: Callable[[Table], Any]) -> Insert:
    adding = insert(audit_command)
    key, *others = audit_command.c
    replacement = {column.name: adding.excluded[column.name] for column in others}
    replacing: Insert = adding.on_conflict_do_update(index_elements=[key], set_=replacement)
    return replacing


_put = {"sqlite": _replacing(sqlite.insert), "postgresql": _replacing(postgresql.insert)}

_REFUSED = (sqlite3.IntegrityError, sqlite3.DataError, ArithmeticError, TypeError, ValueError)

_LOCK = "audit-outcomes"

_GATHERING_SECONDS = 0.1
"""How long outcomes are gathered after a page: many rows in a transaction change fewer pages."""

_MANY = 500
"""So many outcomes in a page mean that more are there already."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class _Bucket(NamedTuple):
    """A bucket, distinguished from another of the same name by when it was created."""

    name: str
    made: str


class CommandCollector:
    """Keeps the rows of commands up to date with their outcomes, while `run` runs.

    A failure is logged, and retried at most `pause` seconds later from the checkpoint; `error` is
    that failure until it has recovered. `position` is the last sequence of the bucket whose
    outcome is in the rows. Of several on one database one collects, and the others stand by;
    `holder` is the other that collects, or None. Called, it is a health check.
    """

    def __init__(
        self, client: Client, subjects: Subjects, database: Database, *, pause: float = 1.0
    ) -> None:
        self.position = 0
        self.holder: str | None = None
        self._outcomes = OutcomeLog(client, subjects)
        self._database = database
        self._pause = pause
        self._supervisor = Supervisor(
            "collecting outcomes",
            _logger,
            Backoff(pause, pause),
            passes=lambda error: isinstance(error, EventStoreError | SQLAlchemyError),
        )
        self._stopping = asyncio.Event()
        self._moved = asyncio.Event()
        self._awaited = asyncio.Event()

    @property
    def error(self) -> Exception | None:
        """Why it failed last; None once it has recovered."""
        return self._supervisor.error

    def stop(self) -> None:
        """Have `run` end."""
        self._stopping.set()

    async def run(self) -> None:
        """Collect until `stop`; raises only errors that are not the store's or the database's."""
        with ungrouped():
            async with asyncio.TaskGroup() as tasks:
                collecting = tasks.create_task(self._collect())
                await self._stopping.wait()
                collecting.cancel()

    async def wait(self, timeout: float = 5.0) -> None:
        """Return once every outcome that is in the bucket now is in the rows.

        `timeout` is seconds. Raises `WaitTimeout`, and `ClientError` if the bucket could not be
        read.
        """
        end = await self._outcomes.last()
        self._awaited.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.position < end:
                    await self._moved.wait()
        self._awaited.clear()
        if self.position < end:
            raise WaitTimeout(end, self.position, timeout)

    async def __call__(self) -> CheckResult:
        """Degraded after a failure, until outcomes are collected again."""
        if self.holder is not None:
            return CheckResult(facts={"standby": self.holder})
        facts = {"position": self.position}
        if self.error is None:
            return CheckResult(facts=facts)
        return CheckResult(status="degraded", problem=str(self.error), facts=facts)

    async def _collect(self) -> None:
        async with locks_of(self._database) as locks:
            while True:
                await self._supervisor.run(partial(self._follow, locks))
                await asyncio.sleep(self._pause)

    async def _follow(self, locks: Locks) -> None:
        """Collect for as long as that goes well; returns where another one does."""
        if _LOCK not in await locks.acquired():
            self.holder = await locks.acquire(_LOCK)
            if self.holder is not None:
                return
        made, end = await self._outcomes.state()
        bucket = _Bucket(self._outcomes.bucket, made)
        self._advance(await self._database.transact(partial(_begin, bucket=bucket, end=end)))
        async with aclosing(self._outcomes.pages(self.position)) as pages:
            async for page in pages:
                await self._store(
                    partial(_store_page, bucket=bucket, start=self.position, page=page)
                )
                self._advance(page.position)
                if len(page.outcomes) < _MANY:
                    await pause(_GATHERING_SECONDS, self._awaited)

    async def _store(self, store: Callable[..., None]) -> None:
        """Store a page; if the database refuses one of its rows, one row after the other."""
        try:
            await self._database.transact(store)
        except Exception as error:
            if not _is_refusal(error):
                raise
            await self._database.transact(partial(store, singly=True))

    def _advance(self, position: int) -> None:
        self._supervisor.recovered()
        self.position = position
        self._moved.set()
        self._moved = asyncio.Event()


def _begin(connection: Connection, bucket: _Bucket, end: int) -> int:
    """The sequence to continue after; 0 in a bucket that was recreated since the last time."""
    own = audit_outcomes.c.bucket == bucket.name
    known = connection.execute(select(audit_outcomes).where(own)).one_or_none()
    begun = {"made": bucket.made, "sequence": 0}
    if known is None:
        connection.execute(insert(audit_outcomes).values(bucket=bucket.name, **begun))
        return 0
    if known.made == bucket.made and known.sequence <= end:
        return int(known.sequence)
    connection.execute(update(audit_outcomes).where(own).values(begun))
    return 0


def _store_page(
    connection: Connection, bucket: _Bucket, start: int, page: OutcomePage, singly: bool = False
) -> None:
    """Store a page; a row that the database refuses fails it, or is skipped if `singly`."""
    values = {"own": bucket.name, "made_then": bucket.made, "start": start, "end": page.position}
    if prepared.execute(connection, _move, [values]) != 1:
        raise ProjectionFenced(f"another service has collected the outcomes after {start}")
    rows = list({record.outcome.command_id: _row(record) for record in page.outcomes}.values())
    if singly:
        for row in rows:
            _try_to_replace(connection, row)
    elif rows:
        _replace(connection, rows)


def _try_to_replace(connection: Connection, row: Mapping[str, Any]) -> None:
    try:
        with connection.begin_nested():
            _replace(connection, [row])
    except Exception as error:
        if not _is_refusal(error):
            raise
        _logger.warning("outcome of command %s is skipped: %s", row["id"][:80], error)


def _replace(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or put them in the place of older ones."""
    prepared.execute(connection, _put[connection.dialect.name], rows)


def _is_refusal(error: Exception) -> bool:
    """Whether a value is refused, as opposed to a database that cannot be written now."""
    cause = cause_of(error)
    state = str(getattr(cause, "sqlstate", None) or "")
    return isinstance(cause, _REFUSED) or state[:2] in ("22", "23")  # PostgreSQL's classes


def _row(record: OutcomeRecord) -> dict[str, Any]:
    outcome = record.outcome
    return {
        "id": outcome.command_id,
        "type": record.type,
        "aggregate": outcome.aggregate and storable(outcome.aggregate[:64]),
        "aggregate_id": outcome.aggregate_id,
        "version": outcome.version,
        "position": outcome.position,
        "time": record.accepted_at or record.finished_at,
        "finished_at": record.finished_at,
        "actor": record.actor,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "status": outcome.status,
        "code": storable(outcome.code),
        "message": storable(outcome.message),
        "deliveries": record.deliveries,
    }
