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
              `commutativity`, `effects`), and an update without those that later ones overwrite
              (`overwriting`). One that fails is a `PoisonEvent`.
7. commit     Rows, parked events and checkpoints, together or not at all. If the answer to a
              commit is lost, the checkpoints say whether it counts (`checkpoint.are_at`).
8. report     `ProjectionRunner.advanced` updates the progress and queues reactions, once the
              projection is live; who waits for a position is woken (`progress`, `reactions`).
9. recover    After a poison event, the page is applied up to it. The event is retried after a
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
from eventstore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    OtherLog,
    OwnedElsewhere,
    ProjectionError,
    VersionChanged,
)
from eventstore.messages.text import make_log_records_safe
from eventstore.projections.database import parking
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import Locks, locks_of
from eventstore.projections.projection import Projection
from eventstore.projections.worker.checkpoint_watch import CheckpointWatch
from eventstore.projections.worker.log_reader import LogReaders
from eventstore.projections.worker.progress import Progress, ProgressBoard
from eventstore.projections.worker.reactions import Reactions
from eventstore.projections.worker.runner import ProjectionRunner, Rebuild, WorkerContext
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

IfTaken = Literal["wait", "refuse"]
"""What a worker does if another one owns a projection: stand by, or refuse to start."""

TAKE_OVER_INTERVAL = 0.25
STANDBY_INTERVAL = 0.05

_logger = make_log_records_safe(logging.getLogger(__name__))


class ProjectionWorker:
    """Keeps the read models of some projections up to date.

    `batch` is how many events a transaction has at most while catching up; live, it has those that
    have arrived. Writes to a database that is locked, full or unreachable are retried for
    `retry_timeout` seconds, by default without end, and `progress` shows it. `on_progress` is
    called after each page with its position and how many events are left in the log after it. With
    `skip_unknown`, events of types that the code does not know are passed over, and stay missing
    in the rows of all but an index of stored events.

    `if_taken` says what to do if another worker owns a projection. `rebuild` is awaited for a
    projection whose rows are of another version, and with `rebuilds_other_logs` for one of another
    log; the old rows stay until it replaces them, and the other projections go on. Checkpoints are
    read every `poll` seconds, in case somebody else has set one. `reaction_timeout` limits each
    reaction, in seconds.

    With `until_failed`, `run` ends when every projection has failed; without it, it goes on, for
    somebody may set their checkpoints. Rows that become another log's it then waits for, too:
    `progress` shows that, and at the end it is no failure.

    `ready` is set when the position of each projection is known, or its owner, or that the
    database does not answer for now.

    Raises `ProjectionError` if two projections share a name or a table.
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
        rebuilds_other_logs: bool = False,
        poll: float = 1.0,
        reaction_timeout: float = 10.0,
        until_failed: bool = True,
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
        self._rebuilds_other_logs = rebuilds_other_logs
        self._poll = poll
        self._until_failed = until_failed
        self._on_progress = on_progress
        self._stopping = asyncio.Event()
        self._has_run = False
        self._group: asyncio.TaskGroup
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: frozenset[str] = frozenset()
        self._telemetry = telemetry
        self._reaction_timeout = reaction_timeout
        self._context = WorkerContext(
            store,
            database,
            batch,
            retry_timeout,
            skip_unknown,
            telemetry,
            rebuild,
            rebuilds_other_logs,
            self._changed,
            self._page_done,
        )
        self._start_over()

    def _start_over(self) -> None:
        self._readers = LogReaders(self._context, self._spawn)
        self._runners = [self._new_runner(each) for each in self.progress.values()]
        self.pause(self._paused)

    def _new_runner(self, progress: Progress) -> ProjectionRunner:
        progress.state = "catching_up"
        progress.error = progress.trouble = None
        timeout, telemetry = self._reaction_timeout, self._telemetry
        reactions = Reactions(progress.projection, timeout=timeout, telemetry=telemetry)
        return ProjectionRunner(progress, self._context, self._readers, reactions)

    @property
    def position(self) -> int:
        """The log position that every projection, failed and paused ones too, has reached."""
        return self._board.position

    @property
    def failures(self) -> list[ProjectionError]:
        """Why projections have stopped; one error for each that has."""
        return self._board.failures

    def stop(self) -> None:
        """Have `run` end after the current transaction; may be called before `run`."""
        self._stopping.set()

    def pause(self, names: Collection[str]) -> list[str]:
        """Pause these projections after the current transaction, and resume all others.

        One that is resumed catches up with what it missed. Returns the unknown names, which have
        no effect. May be called before `run`; lasts as long as this worker.
        """
        self._paused = frozenset(names)
        for each in self._runners:
            each.pause(each.name in names)
        known = {each.name for each in self._runners}
        return [name for name in names if name not in known]

    async def run(self) -> None:
        """Follow the log until `stop` is called; after an error it can be run again.

        A failed projection stops right before the event that it could not take, and the others go
        on; it is retried when somebody sets its checkpoint (`checkpoint.retry`, or a rebuild).
        At the end the failure is raised: `ProjectionFailed` or `ProjectionFenced`, or if there are
        several, a `ProjectionError` that lists them, their group chained as its cause.

        Raises immediately `OwnedElsewhere` if another worker owns a projection and `if_taken` is
        "refuse", `OtherLog` if rows were built from another log, `VersionChanged` if they were made
        by another version of a projection and cannot be rebuilt, `DatabaseUnavailable` after
        `retry_timeout`, and what the store raises for a log that cannot be read. If cancelled, it
        lets the current transaction end first.
        """
        if self._stopping.is_set():
            return
        if self._has_run:
            self._start_over()
        self._has_run = True
        log = await self._store.identity()
        for each in self._runners:
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
                self._board.notify()
        self._raise_failures()

    async def wait(
        self, position: int, timeout: float = 5.0, *, projection: str | None = None
    ) -> None:
        """Return once a projection, or every one, has committed everything up to `position`.

        For reading one's own writes: `position` is what an append or an outcome reported. If this
        worker only stands by, the one that owns the projection counts.
        `timeout` is seconds. Raises `WaitTimeout`, or the failure of a projection that will not
        get there, or `ProjectionError` for a name that this worker does not have.
        """
        await self._board.wait(position, timeout, projection)

    async def parked(self) -> Mapping[str, int]:
        """How many events are parked, by projection.

        Raises `DatabaseUnavailable`, and SQLAlchemy's errors.
        """
        names = [each.name for each in self._runners if each.projection.on_poison == "park"]
        if not names:
            return {}
        async with self._database.reading() as connection:
            return await connection.run_sync(parking.count, names)

    async def _begin(self, locks: Locks, watch: CheckpointWatch) -> None:
        """Acquire the locks that are free, and claim the checkpoints of these projections."""
        for holder, names in (await self._take(locks, self._runners)).items():
            if self._if_taken == "refuse":
                raise OwnedElsewhere(f"projection {', '.join(names)}", holder)
            _logger.warning("standing by for %s, which owns %s", holder, ", ".join(names))
        owned = [each for each in self._runners if each.is_owner]

        def waiting(trouble: DatabaseUnavailable) -> None:
            for each in owned:
                each.wait_for_database(trouble)
            self.ready.set()

        found = await self._database.transact(
            lambda connection: [self._claim(each, connection) for each in owned],
            retry_timeout=self._retry_timeout,
            on_wait=waiting,
        )
        for each, known in zip(owned, found, strict=True):
            if known is not None:
                each.claimed(await each.checked(known))
        await self._read_checkpoints(watch)
        self.ready.set()

    def _claim(self, runner: ProjectionRunner, connection: Connection) -> Checkpoint | None:
        """Its checkpoint; None if its rows are to be rebuilt first."""
        try:
            return runner.claim(connection)
        except VersionChanged:
            if self._rebuild is None:
                raise
            return None
        except OtherLog:
            if not self._rebuilds_other_logs:
                raise
            return None

    async def _work(self, locks: Locks, watch: CheckpointWatch) -> None:
        async with asyncio.TaskGroup() as self._group:
            reactions = [each.reactions for each in self._runners]
            reacting = [self._group.create_task(each.run()) for each in reactions]
            for part in (self._watch(watch), self._take_over(locks)):
                self._spawn(part)
            for each in self._runners:
                self._spawn(each.run())
            await self._stopping.wait()
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
        """Acquire the locks that others release, and give up those that were lost."""
        failures = FailureLog("taking over", _logger)
        while True:
            idle = all(each.is_owner for each in self._runners)
            await asyncio.sleep(self._poll if idle else TAKE_OVER_INTERVAL)
            acquired = await locks.acquired()
            for each in self._runners:
                if each.is_owner and _lock_name(each) not in acquired:
                    _logger.warning(
                        "the lock of projection %s was lost; another worker may own it now",
                        each.name,
                    )
                    each.lose_ownership()
            standing_by = [
                each for each in self._runners if not (each.is_owner or each.is_superseded)
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
        self, locks: Locks, runners: Sequence[ProjectionRunner]
    ) -> dict[str, list[str]]:
        """Acquire the locks that are free; returns the names of the others by their holder."""
        elsewhere: dict[str, list[str]] = {}
        for each in runners:
            holder = await locks.acquire(_lock_name(each))
            if holder is None:
                each.become_owner()
            else:
                each.lose_ownership()
                elsewhere.setdefault(holder, []).append(each.name)
        return elsewhere

    async def _watch(self, watch: CheckpointWatch) -> None:
        """Read the checkpoints regularly, for somebody else may set or move them."""
        while True:
            idle = all(each.is_owner for each in self._runners)
            await asyncio.sleep(self._poll if idle else min(self._poll, STANDBY_INTERVAL))
            await self._read_checkpoints(watch)

    async def _read_checkpoints(self, watch: CheckpointWatch) -> None:
        found = await watch.read()
        for each in self._runners:
            if each.name not in found:
                continue
            try:
                each.see_checkpoint(found[each.name])
            except OtherLog as other:
                if not self.ready.is_set():
                    raise
                each.refuse_rows(other)
        self._board.notify()

    def _page_done(self, position: int, pending: int) -> None:
        self.pending = self._readers.pending
        self._board.notify()
        if self._on_progress is not None:
            self._on_progress(position, pending)

    def _changed(self) -> None:
        self._board.notify()
        if self._until_failed and len(self.failures) == len(self.progress):
            self._stopping.set()

    def _raise_failures(self) -> None:
        failures = [each for each in self.failures if not self._was_waited_for(each)]
        if len(failures) == 1:
            raise failures[0]
        if failures:
            listed = "; ".join(map(str, failures))
            group = ExceptionGroup("projections that stopped", failures)
            raise ProjectionError(f"{len(failures)} projections stopped: {listed}") from group

    def _was_waited_for(self, failure: ProjectionError) -> bool:
        return isinstance(failure, OtherLog) and not self._until_failed


def _lock_name(runner: ProjectionRunner) -> str:
    return f"projection-{runner.name}"


def _check_distinct(projections: Sequence[Projection]) -> None:
    names = [each.name for each in projections]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ProjectionError(f"projection {', '.join(sorted(twice))} is in this worker twice")
    writing: dict[str, str] = {}
    for each in projections:
        for table in each.tables:
            other = writing.setdefault(table.fullname, each.name)
            if other != each.name:
                raise ProjectionError(
                    f"projections {other} and {each.name} both write table {table.fullname}: a "
                    "rebuild of one would replace the rows of the other; give each its own"
                )
    if not names:
        raise ProjectionError("a projection worker needs at least one projection")
