"""The runner: what one projection goes through in a worker, from standing by to being live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from eventstore.concurrency.backoff import Backoff, pause
from eventstore.errors import (
    CheckpointReset,
    DatabaseUnavailable,
    OtherLog,
    PoisonEvent,
    ProjectionError,
    ProjectionFailed,
    ProjectionFenced,
    VersionChanged,
)
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database import checkpoint, declared
from eventstore.projections.database.checkpoint import Checkpoint, ExpectedCheckpoint
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.worker.apply import AppliedBatch, park
from eventstore.projections.worker.progress import Progress
from eventstore.projections.worker.reactions import Reactions
from eventstore.store.log_mark import LogMark
from eventstore.store.store import EventStore
from eventstore.telemetry import Telemetry

T = TypeVar("T")

BACKOFF = Backoff(0.1, 2.0)

Rebuild = Callable[[Projection], Awaitable[None]]
"""Rebuilds the rows of a projection from scratch by the current code, and sets its checkpoint."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class WorkerContext(Struct, frozen=True):
    """What all runners and log readers of a worker share.

    `batch` is how many events a page has at most. `rebuild` is for rows of another version,
    and if it `rebuilds_other_logs`, of another log;
    `changed` is called when a projection has failed or otherwise changed its state, and
    `page_done` after each page, with its position and how many events are left.
    """

    store: EventStore
    database: Database
    batch: int
    retry_timeout: float
    skip_unknown: bool
    telemetry: Telemetry
    rebuild: Rebuild | None
    rebuilds_other_logs: bool
    changed: Callable[[], None]
    page_done: Callable[[int, int], None]


class EventSource(Protocol):
    """Where events come from."""

    def enter(self, runner: ProjectionRunner) -> None:
        """Apply events to a projection, from its position on."""

    async def leave(self, runner: ProjectionRunner) -> None:
        """Apply no more events; returns when a transaction that is under way has ended."""


class ProjectionRunner:
    """One projection of a worker, and what is known about it.

    Calls from outside (`become_owner`, `pause`, `report_failure`, ...) only change what is known;
    `run` then takes the next step.
    """

    def __init__(
        self, progress: Progress, context: WorkerContext, source: EventSource, reactions: Reactions
    ) -> None:
        self.progress = progress
        self.projection = progress.projection
        self.reactions = reactions
        self.log: str | None = None
        self.mark: LogMark | None = None
        self.is_owner = False
        self.is_superseded = False
        self._context = context
        self._source = source
        self._epoch: int | None = None
        self._rows_version: int | None = None
        self._outdated = True
        self._paused = False
        self._trouble: ProjectionError | None = None
        self._tries = 0
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """The projection's name."""
        return self.projection.name

    @property
    def expected(self) -> ExpectedCheckpoint:
        """Its checkpoint, as this worker left it."""
        return ExpectedCheckpoint(self.projection, self.progress.position, self._epoch)

    @property
    def is_following(self) -> bool:
        """Whether events may be applied to it."""
        is_stopped = self._outdated or self._paused or self._trouble or self.progress.error
        return self.is_owner and not is_stopped

    def become_owner(self) -> None:
        """No other worker owns this projection now."""
        if not self.is_owner:
            self.is_owner = self._outdated = True
        self._changed.set()

    def lose_ownership(self) -> None:
        """Another worker owns this projection now, or may own it; does nothing if that is known."""
        if not self.is_owner and self.progress.state in ("standby", "failed"):
            return
        self.is_owner = False
        self.progress.state = "standby"
        self._outdated = True
        self._epoch = None
        self.progress.error = self.progress.trouble = None
        self._changed.set()

    def pause(self, paused: bool) -> None:
        """Pause, or resume."""
        if paused == self._paused:
            return
        self._paused = paused
        if self.progress.state in ("catching_up", "live", "retrying", "paused"):
            self.progress.state = "paused" if paused else "catching_up"
        self._changed.set()

    def see_checkpoint(self, known: Checkpoint) -> None:
        """Take note of the checkpoint as it is in the database.

        Raises `OtherLog` if another worker builds the rows from another log than this one's.
        """
        if not self.is_owner:
            if self.log is not None and known.log not in {None, self.log}:
                raise OtherLog(known, self.log)
            if isinstance(self.progress.error, OtherLog):
                self.progress.state, self.progress.error = "standby", None
                _logger.error("projection %s: its rows are of this log again", self.name)
            self.progress.position = known.position
            self._see_version(known)
        elif self._epoch not in (None, known.epoch):
            self.restart_from_checkpoint()

    def refuse_rows(self, other: OtherLog) -> None:
        """Stand by for no worker that builds the rows from another log, as long as it does."""
        if self.progress.error is None:
            _logger.error("%s", other)
        self.progress.state, self.progress.error = "failed", other
        self._context.changed()

    def _see_version(self, known: Checkpoint) -> None:
        """Leave rows to newer code that has rebuilt them meanwhile, even if it ends.

        Rows that were of a newer version from the start are not: older code was started on purpose.
        """
        own, before = self.projection.version, self._rows_version
        if before is not None and before <= own < known.version:
            self.is_superseded = True
            self.progress.trouble = VersionChanged(self.name, own, known)
            _logger.warning("standing by permanently: %s", self.progress.trouble)
        self._rows_version = known.version

    def restart_from_checkpoint(self) -> None:
        """Somebody has set the checkpoint: continue from there."""
        self._outdated = True
        self._changed.set()

    def report_failure(self, trouble: ProjectionError) -> None:
        """Events could not be applied."""
        self._trouble = self.progress.trouble = trouble
        self.progress.state = "retrying"
        self._changed.set()

    def wait_for_database(self, trouble: DatabaseUnavailable) -> None:
        """The database cannot be written now; the transaction is retried until it can."""
        if self.is_owner:
            self.progress.state = "retrying"
            self.progress.trouble = trouble

    def find_other_reader(self) -> None:
        """Find another log reader, for this one has gone on without it."""
        self._changed.set()

    def caught_up(self) -> None:
        """All events in the log are applied."""
        if self.is_following:
            self.progress.state = "live"

    def advanced(self, events: Sequence[LogEvent], until: int, applied: AppliedBatch) -> None:
        """Events were applied and committed up to a position."""
        progress, start = self.progress, self.progress.position
        progress.position = until
        self.mark = LogMark.of_last(events, until) or self.mark
        progress.applied += applied.handled
        progress.trouble = None
        self._tries = 0
        if progress.state == "retrying":
            progress.state = "catching_up"
        self._context.telemetry.count("events_projected", applied.handled, projection=self.name)
        if progress.state == "live" and self.projection.has_reactions:
            for recorded in events:
                if start < recorded.position <= until and recorded.position not in applied.parked:
                    self.reactions.add(recorded)

    def claimed(self, known: Checkpoint) -> None:
        """The checkpoint is this worker's to move, from this position."""
        self._epoch = known.epoch
        self._rows_version = known.version
        self._outdated = False
        self._trouble = self.progress.error = self.progress.trouble = None
        self._tries = 0
        self.progress.position = known.position
        self.mark = known.mark
        self.progress.state = "paused" if self._paused else "catching_up"
        self._context.changed()

    def claim(self, connection: Connection) -> Checkpoint:
        """The checkpoint to continue from; raises what `checkpoint.claim` does."""
        claimed = checkpoint.claim(connection, self.projection, utc_now(), self.log)
        declared.note(connection, self.projection)
        return claimed

    async def run(self) -> None:
        """Take one step after the other, until cancelled.

        Raises `DatabaseUnavailable`, and what SQLAlchemy raises if no event is the cause.
        """
        while True:
            self._changed.clear()
            await self._step()

    async def _step(self) -> None:
        if not self.is_owner:
            await self._changed.wait()
        elif self._outdated:
            await self._claim()
        elif self.progress.error is not None or self._paused:
            await self._changed.wait()
        elif self._trouble is not None:
            await self._recover(self._trouble)
        else:
            await self._follow()

    async def _follow(self) -> None:
        self.progress.state = "retrying" if self._tries else "catching_up"
        self._source.enter(self)
        await self._changed.wait()
        await self._source.leave(self)

    async def checked(self, known: Checkpoint) -> Checkpoint:
        """The checkpoint, if the log still has what it has seen.

        One of an earlier release has seen nothing, and gets what the log has there. Raises
        `LogDiverged` and `ClientError`.
        """
        store = self._context.store
        if known.mark is not None:
            await store.check_seen(known.mark, f"projection {self.name}", live=True)
            return known
        mark = await store.mark_at(known.position, live=True) if known.position else None
        if mark is None:
            return known
        await self._transact(lambda connection: checkpoint.note_seen(connection, self.name, mark))
        return msgspec.structs.replace(known, seen=str(mark))

    async def _claim(self) -> None:
        try:
            self.claimed(await self.checked(await self._transact(self.claim)))
        except DatabaseUnavailable:
            raise
        except VersionChanged as changed:
            await self._rebuild(changed)
        except OtherLog as other:
            if self._context.rebuilds_other_logs:
                await self._rebuild(other)
            else:
                self._fail(other, other.known)
        except ProjectionError as error:
            self._fail(error)

    async def _rebuild(self, changed: VersionChanged | OtherLog) -> None:
        """Have rows of another version or log rebuilt, unless newer code has just made them."""
        known, rebuild = changed.known, self._context.rebuild
        replaced_by_newer = self._epoch is not None and known.version > self.projection.version
        if rebuild is None or replaced_by_newer:
            self._fail(changed, known)
            return
        self.progress.position = known.position
        self.progress.state = "rebuilding"
        self._context.changed()
        try:
            await rebuild(self.projection)
            self.claimed(await self.checked(await self._transact(self.claim)))
        except ProjectionFailed as error:
            await self._stop(error, known)
        except Exception as error:
            failure = ProjectionFailed(f"projection {self.name} could not be rebuilt: {error}")
            failure.__cause__ = error
            await self._stop(failure, known)

    async def _recover(self, trouble: ProjectionError) -> None:
        """Retry after a pause, up to the projection's limit; then park the event, or stop."""
        if isinstance(trouble, ProjectionFenced) and self._tries < self.projection.retries:
            # Whoever was faster may own the projection by now, which the lock will show.
            await self._pause_before_retry(trouble)
            self.restart_from_checkpoint()
        elif isinstance(trouble, ProjectionFenced):
            self._fail(trouble)
        elif self._tries < self.projection.retries:
            await self._pause_before_retry(trouble)
        elif isinstance(trouble, PoisonEvent) and self.projection.on_poison == "park":
            await self._park(trouble)
        else:
            await self._stop(trouble)

    async def _pause_before_retry(self, trouble: ProjectionError) -> None:
        if self._tries == 0:
            _logger.warning("%s; retrying", trouble)
        self.progress.state = "retrying"
        self._tries += 1
        if await pause(BACKOFF.delay(self._tries), self._changed):
            return
        self._context.telemetry.count("retries", operation="project")
        self._trouble = None

    async def _park(self, poison: PoisonEvent) -> None:
        """Go on without an event, which is parked in the same transaction."""
        expected, tries = self.expected, self._tries + 1

        def committed(_result: None) -> None:
            parked = AppliedBatch(0, frozenset([poison.position]))
            self.advanced([poison.recorded], poison.position, parked)
            self._trouble = None
            self._context.telemetry.count("parked", code=poison.code)
            self._context.changed()

        _logger.warning("%s; it is parked, and the projection continues", poison)
        try:
            await self._context.database.transact(
                lambda connection: park(connection, expected, poison, tries),
                retry_timeout=self._context.retry_timeout,
                committed=committed,
                is_committed=lambda connection: checkpoint.are_at(
                    connection, [expected], poison.position
                ),
                on_wait=self.wait_for_database,
            )
        except CheckpointReset:
            self.restart_from_checkpoint()
        except ProjectionFenced as fenced:
            self._fail(fenced)
        except SQLAlchemyError:
            await self._stop(poison)

    async def _stop(self, error: ProjectionError, known: Checkpoint | None = None) -> None:
        """Stop, and record the reason in the database for other processes to see."""
        epoch = self._epoch if known is None else known.epoch
        expected = ExpectedCheckpoint(self.projection, self.progress.position, epoch)
        try:
            await self._transact(
                lambda connection: checkpoint.fail(connection, expected, str(error))
            )
        except (DatabaseUnavailable, SQLAlchemyError) as unavailable:
            _logger.warning(
                "projection %s: the failure could not be recorded: %s", self.name, unavailable
            )
        self._fail(error, known)

    def _fail(self, error: ProjectionError, known: Checkpoint | None = None) -> None:
        """Stop until somebody sets the checkpoint, which a later epoch than this shows."""
        if known is not None:
            self._epoch = known.epoch
            self.progress.position = known.position
        self._epoch = self._epoch or 0  # unknown after a claim that failed
        self._outdated = False
        self._trouble = self.progress.trouble = None
        self._tries = 0
        self.progress.state = "failed"
        self.progress.error = error
        _logger.error("%s", error)
        self._context.changed()

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        return await self._context.database.transact(
            work, retry_timeout=self._context.retry_timeout, on_wait=self.wait_for_database
        )
