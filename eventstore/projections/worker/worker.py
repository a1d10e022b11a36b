"""The projection worker: follows the log and keeps the read models of some projections up to date.

The pipeline of an event, from the log to the rows:

1. read       `LogReader.run` reads a page. The store has checked and decoded its events; foreign
              messages are left out, and what cannot be decoded comes as an `UnreadEvent`.
2. select     `LogReader.take_page` selects the projections that lack the page. One whose checkpoint
              was set back leaves, and another reader brings it there.
3. transact   One transaction for all of them; if it fails, one for each, so that what stops one
              projection stops no other (`LogReader._apply`).
4. fence      `apply` moves the checkpoints, each from where this worker left it: another worker,
              epoch or version ends the transaction (`ProjectionFenced`).
5. pass, park Events that a projection has no handler for are passed over; an event of an aggregate
              with a parked event is parked behind it.
6. handle     Handlers turn the others into changes. Equal statements are executed as one batch,
              as far as their tables prove that the order does not matter (`batches`,
              `commutativity`). One that fails is a `PoisonEvent`.
7. commit     Rows, parked events and checkpoints, together or not at all. If the answer to a
              commit is lost, the checkpoints say whether it counts (`checkpoint.are_at`).
8. report     `ProjectionRunner.moved` updates the progress, wakes those who wait for a position,
              and queues reactions, once the projection is live (`progress`, `reactions`).
9. recover    After a poison event, the page is applied up to it. The event is tried again after a
              pause, and then parked or the projection stops (`ProjectionRunner._recover`).

So a crash anywhere repeats nothing and skips nothing. Several workers, in whatever processes, may
be given the same projections: each projection belongs to one of them, and the others stand by.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal

from sqlalchemy import Connection

from eventstore.concurrency.failures import ungrouped
from eventstore.concurrency.supervisor import FailureLog
from eventstore.errors import ConfigurationError, ProjectionError
from eventstore.projections.database import parking
from eventstore.projections.database.checkpoint import Checkpoint, VersionChanged
from eventstore.projections.database.database import Database, DatabaseUnavailable
from eventstore.projections.database.locks import Locks, OwnedElsewhere, locks_of
from eventstore.projections.projection import Projection
from eventstore.projections.worker.checkpoint_watch import CheckpointWatch
from eventstore.projections.worker.log_reader import LogReaders
from eventstore.projections.worker.progress import Progress, ProgressBoard, State, WaitTimeout
from eventstore.projections.worker.reactions import Reactions
from eventstore.projections.worker.runner import ProjectionRunner, Rebuild, WorkerContext
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.text import make_log_records_safe

__all__ = ["IfTaken", "Progress", "ProjectionWorker", "State", "WaitTimeout"]

IfTaken = Literal["wait", "refuse"]
"""What a worker does where another one has a projection: stand by, or refuse to begin."""

TAKE_OVER_INTERVAL = 0.25
STANDBY_INTERVAL = 0.05

_logger = make_log_records_safe(logging.getLogger(__name__))


class ProjectionWorker:
    """Keeps the read models of some projections up to date; runs once.

    `batch` is the most events of one transaction while catching up; live, a transaction holds
    what has arrived. A database that is locked, full or away is asked again for `retry_timeout`
    seconds, without end unless that is given, and `progress` says so. `on_progress` is called
    after each page with its position and how many events are left in the log after it. With
    `skip_unknown`, events of types that the code does not know are passed over, and stay missing
    in the rows of all but an index of stored events.

    `if_taken` says what to do where another worker has a projection. `rebuild` is awaited for a
    projection whose rows are of another version; the old rows stay until it replaces them, and
    the other projections go on. `poll` is how often, in seconds, it looks whether somebody else
    has set a checkpoint. `reaction_timeout` bounds each reaction, in seconds.

    `ready` is set when it knows where each of its projections stands, or who else has it, or that
    the database does not say for now.

    Raises `ProjectionError` where two projections share a name or a table.
    """

    def __init__(
        self,
        store: EventStore,
        database: Database,
        projections: Iterable[Projection],
        *,
        batch: int = 1000,
        retry_timeout: float = math.inf,
        skip_unknown: bool = False,
        if_taken: IfTaken = "wait",
        rebuild: Rebuild | None = None,
        poll: float = 1.0,
        reaction_timeout: float = 10.0,
        on_progress: Callable[[int, int], None] | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        known = tuple(projections)
        _check_distinct(known)
        self.ready = asyncio.Event()
        self.pending: int | None = None
        self._board = ProgressBoard(known)
        self.progress: Mapping[str, Progress] = self._board.progress
        self._store = store
        self._database = database
        self._retry_timeout = retry_timeout
        self._if_taken = if_taken
        self._rebuild = rebuild
        self._poll = poll
        self._on_progress = on_progress
        self._over = asyncio.Event()
        self._group: asyncio.TaskGroup
        self._tasks: set[asyncio.Task[None]] = set()
        context = WorkerContext(
            store,
            database,
            batch,
            retry_timeout,
            skip_unknown,
            telemetry,
            rebuild,
            self._changed,
            self._page_done,
        )
        self._lanes = LogReaders(context, self._spawn)
        self._followers = [
            ProjectionRunner(
                progress,
                context,
                self._lanes,
                Reactions(progress.projection, timeout=reaction_timeout, telemetry=telemetry),
            )
            for progress in self.progress.values()
        ]

    @property
    def position(self) -> int:
        """The log position that every projection, failed and paused ones too, has reached."""
        return self._board.position

    @property
    def failures(self) -> list[ProjectionError]:
        """Why projections stopped, for those that did."""
        return self._board.failures

    def stop(self) -> None:
        """Let `run` end after the transaction at hand; may be called before it has begun."""
        self._over.set()

    def pause(self, names: Collection[str]) -> None:
        """Have these projections stand still after the transaction at hand, and all others go on.

        One that is no longer among them catches up with what it missed. Names that this worker
        does not have are passed over. May be called before `run`; lasts as long as this worker.
        """
        for each in self._followers:
            each.pause(each.name in names)

    async def run(self) -> None:
        """Follow the log until `stop` is called, or until every projection has failed.

        A failed projection stands right before the event it could not take, and the others go on;
        it is tried again when somebody sets its checkpoint (`checkpoint.retry`, or a rebuild).
        At the end the failure is raised: `ProjectionFailed` or `ProjectionFenced`, or where there
        are several, a `ProjectionError` that lists them, their group chained as its cause.

        Raises at once `OwnedElsewhere` where another worker has a projection and is not to be
        waited for, `OtherLog` where rows were built from another log, `VersionChanged` where they
        were made by another version of a projection and cannot be rebuilt, `DatabaseUnavailable`
        where its patience has an end, and what the store raises for a log that cannot be read.
        Cancelled, it lets the transaction at hand come to its end first.
        """
        if self._over.is_set():
            return
        log = await self._store.identity()
        for each in self._followers:
            each.log = log
        async with (
            locks_of(self._database) as locks,
            aclosing(CheckpointWatch(self._database, self.progress)) as watch,
        ):
            try:
                with ungrouped():
                    await self._begin(locks, watch)
                    await self._work(locks, watch)
            finally:
                self._board.tell()
        self._raise_failures()

    async def wait(
        self, position: int, timeout: float = 5.0, *, projection: str | None = None
    ) -> None:
        """Return once a projection, or every one, has committed everything up to `position`.

        For reading one's own writes: `position` is what an append or an outcome reported. It does
        not matter which worker does it, if this one only stands by.
        `timeout` is seconds. Raises `WaitTimeout`, or the failure of a projection that will not
        get there, or `ProjectionError` for a name this worker does not have.
        """
        await self._board.wait(position, timeout, projection)

    async def parked(self) -> Mapping[str, int]:
        """How many events are parked, by projection.

        Raises `DatabaseUnavailable`, and SQLAlchemy's errors.
        """
        names = [each.name for each in self._followers if each.projection.on_poison == "park"]
        if not names:
            return {}
        async with self._database.reading() as connection:
            return await connection.run_sync(parking.count, names)

    async def _begin(self, locks: Locks, watch: CheckpointWatch) -> None:
        """Take what nobody else has, and find out where each of these projections stands."""
        for holder, names in (await self._take(locks, self._followers)).items():
            if self._if_taken == "refuse":
                raise OwnedElsewhere(f"projection {', '.join(names)}", holder)
            _logger.warning("standing by for %s, which keeps %s", holder, ", ".join(names))
        owned = [each for each in self._followers if each.is_owner]

        def claim_all(connection: Connection) -> list[Checkpoint | None]:
            return [self._claim(each, connection) for each in owned]

        def waiting(trouble: DatabaseUnavailable) -> None:
            for each in owned:
                each.wait_for_database(trouble)
            self.ready.set()

        found = await self._database.transact(
            claim_all, retry_timeout=self._retry_timeout, waiting=waiting
        )
        for each, known in zip(owned, found, strict=True):
            if known is not None:
                each.claimed(known)
        await self._look(watch)
        self.ready.set()

    def _claim(self, follower: ProjectionRunner, connection: Connection) -> Checkpoint | None:
        """Its checkpoint; None where its rows are to be rebuilt before."""
        try:
            return follower.claim(connection)
        except VersionChanged:
            if self._rebuild is None:
                raise
            return None

    async def _work(self, locks: Locks, watch: CheckpointWatch) -> None:
        async with asyncio.TaskGroup() as self._group:
            reactions = [each.reactions for each in self._followers]
            reacting = [self._group.create_task(each.run()) for each in reactions]
            for part in (self._watch(watch), self._take_over(locks)):
                self._spawn(part)
            for each in self._followers:
                self._spawn(each.run())
            await self._over.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            for waiting in reactions:
                await waiting.drained()
            for task in reacting:
                task.cancel()

    def _spawn(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(part)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _take_over(self, locks: Locks) -> None:
        """Take projections that others have let go of, and give up what was lost."""
        failures = FailureLog("taking over", _logger)
        while True:
            idle = all(each.is_owner for each in self._followers)
            await asyncio.sleep(self._poll if idle else TAKE_OVER_INTERVAL)
            kept = await locks.kept()
            for each in self._followers:
                if each.is_owner and _lock_name(each) not in kept:
                    _logger.warning("projection %s may be another worker's now", each.name)
                    each.disown()
            standing_by = [
                each for each in self._followers if not (each.is_owner or each.is_superseded)
            ]
            try:
                await self._take(locks, standing_by)
            except ConfigurationError as error:  # a disk that is full, or away for now
                failures.note(error)
            else:
                failures.recovered()
            if taken := [each.name for each in standing_by if each.is_owner]:
                _logger.warning("took over %s", ", ".join(taken))

    async def _take(
        self, locks: Locks, followers: Sequence[ProjectionRunner]
    ) -> dict[str, list[str]]:
        """Take what nobody else has; the names of the others by who has them."""
        elsewhere: dict[str, list[str]] = {}
        for each in followers:
            holder = await locks.take(_lock_name(each))
            if holder is None:
                each.own()
            else:
                each.disown()
                elsewhere.setdefault(holder, []).append(each.name)
        return elsewhere

    async def _watch(self, watch: CheckpointWatch) -> None:
        """Look at the checkpoints now and then, for somebody else may set or move them."""
        while True:
            idle = all(each.is_owner for each in self._followers)
            await asyncio.sleep(self._poll if idle else min(self._poll, STANDBY_INTERVAL))
            await self._look(watch)

    async def _look(self, watch: CheckpointWatch) -> None:
        found = await watch.look()
        for each in self._followers:
            if each.name in found:
                each.notice(found[each.name])
        self._board.tell()

    def _page_done(self, position: int, pending: int) -> None:
        self.pending = self._lanes.pending
        self._board.tell()
        if self._on_progress is not None:
            self._on_progress(position, pending)

    def _changed(self) -> None:
        self._board.tell()
        if len(self.failures) == len(self._followers):
            self._over.set()

    def _raise_failures(self) -> None:
        failures = self.failures
        if len(failures) == 1:
            raise failures[0]
        if failures:
            listed = "; ".join(map(str, failures))
            group = ExceptionGroup("projections that stopped", failures)
            raise ProjectionError(f"{len(failures)} projections stopped: {listed}") from group


def _lock_name(follower: ProjectionRunner) -> str:
    return f"projection-{follower.name}"


def _check_distinct(projections: Sequence[Projection]) -> None:
    names = [each.name for each in projections]
    tables = [table.name for each in projections for table in each.tables]
    for what, values in (("projection", names), ("table", tables)):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ProjectionError(f"{what} {', '.join(sorted(twice))} is in this worker twice")
    if not names:
        raise ProjectionError("a projection worker needs at least one projection")
