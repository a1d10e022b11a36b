"""The projection worker: one reader of the log, and all read models that follow it.

For each page of the log, the rows of all projections and their checkpoints are committed in one
transaction, so a crash anywhere repeats nothing and skips nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from eventstore.envelope import RecordedEvent, utc_now
from eventstore.errors import ProjectionError, ProjectionFailed
from eventstore.history import Page
from eventstore.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from projections import checkpoint
from projections.apply import PoisonEvent, apply
from projections.database import Database, DatabaseUnavailable
from projections.projection import Projection

__all__ = ["Progress", "ProjectionWorker", "State", "WaitTimeout"]

_logger = logging.getLogger("eventstore")

State = Literal["catching_up", "live", "paused", "failed"]
"""Where a projection is: once it has caught up it counts as live until it is paused or fails."""


class WaitTimeout(ProjectionError, TimeoutError):
    """The read model has not reached a position in time; it may do so later.

    `position` was waited for, `reached` is how far all projections in question have come.
    """

    code = "wait_timeout"
    retryable = True

    def __init__(self, position: int, reached: int, seconds: float) -> None:
        super().__init__(
            f"the read model is at position {reached}, not at {position}, after {seconds:g} s"
        )
        self.position = position
        self.reached = reached
        self.seconds = seconds


class Progress:
    """How one projection is doing; read it at any time, the worker keeps it up to date.

    `position` is the last log position committed, `applied` how many events were handled since
    the worker began, `error` why the projection stopped where `state` is "failed".
    """

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.state: State = "catching_up"
        self.position = 0
        self.applied = 0
        self.error: ProjectionError | None = None

    @property
    def name(self) -> str:
        """The projection's name."""
        return self.projection.name

    def _moved(self, position: int, applied: int) -> None:
        self.position = position
        self.applied += applied

    def _failed(self, error: ProjectionError) -> None:
        if self.error is None:
            self.state = "failed"
            self.error = error
            _logger.error("%s", error)


class ProjectionWorker:
    """Keeps the read models of some projections up to date; runs once.

    `batch` is the most events of one transaction while catching up; live, a transaction holds
    what has arrived. `patience` is how many seconds a database that is locked, full or away is
    asked again. `on_progress` is called after each page with its position and how many events
    are left in the log after it. With `skip_unknown`, events of types that the code does not know
    are passed over, and stay missing in the rows.

    Raises `ProjectionError` where two projections share a name or a table.
    """

    def __init__(
        self,
        store: EventStore,
        database: Database,
        projections: Iterable[Projection],
        *,
        batch: int = 1000,
        patience: float = 30.0,
        skip_unknown: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        known = tuple(projections)
        _check_distinct(known)
        self.progress: Mapping[str, Progress] = {each.name: Progress(each) for each in known}
        self.pending: int | None = None
        self._store = store
        self._database = database
        self._batch = batch
        self._patience = patience
        self._skip_unknown = skip_unknown
        self._on_progress = on_progress
        self._telemetry = telemetry
        self._stopping = asyncio.Event()
        self._repaused = asyncio.Event()
        self._moved = asyncio.Event()

    @property
    def position(self) -> int:
        """The log position that every projection, failed and paused ones too, has reached."""
        return min(each.position for each in self.progress.values())

    @property
    def failures(self) -> list[ProjectionError]:
        """Why projections stopped, for those that did."""
        return [each.error for each in self.progress.values() if each.error is not None]

    def stop(self) -> None:
        """Let `run` end after the transaction at hand; may be called before it has begun."""
        self._stopping.set()

    def pause(self, names: Collection[str]) -> None:
        """Have these projections stand still after the transaction at hand, and all others go on.

        One that is no longer among them catches up with what it missed. Names that this worker
        does not have are passed over. May be called before `run`; lasts as long as this worker.
        """
        for each in self._running():
            if (each.name in names) != (each.state == "paused"):
                each.state = "paused" if each.name in names else "catching_up"
                self._repaused.set()

    async def run(self) -> None:
        """Follow the log until `stop` is called, or until every projection has failed.

        A failed projection stands right before the event it could not take, and the others go on.
        At the end the failure is raised: `ProjectionFailed` or `ProjectionFenced`, or where there
        are several, a `ProjectionError` that lists them, their group chained as its cause.

        Raises at once `ProjectionError` where rows were made by another version of a projection,
        `DatabaseUnavailable`, and what the store raises for a log that cannot be read.
        Cancelled, it lets the transaction at hand come to its end first.
        """
        await self._begin()
        try:
            while self._running() and not self._stopping.is_set():
                self._repaused.clear()
                await self._read_for_a_while()
        finally:
            self._wake_waiting()
        self._raise_failures()

    async def wait(
        self, position: int, timeout: float = 5.0, *, projection: str | None = None
    ) -> None:
        """Return once a projection, or every one, has committed everything up to `position`.

        For reading one's own writes: `position` is what an append or an outcome reported.
        `timeout` is seconds. Raises `WaitTimeout`, or the failure of a projection that will not
        get there, or `ProjectionError` for a name this worker does not have.
        """
        awaited = self._named(projection)
        try:
            async with asyncio.timeout(timeout):
                while [each for each in awaited if not _is_at(each, position)]:
                    await self._moved.wait()
        except TimeoutError:
            at = min(each.position for each in awaited)
            raise WaitTimeout(position, at, timeout) from None

    def _named(self, projection: str | None) -> list[Progress]:
        if projection is None:
            return list(self.progress.values())
        if projection not in self.progress:
            known = ", ".join(self.progress)
            raise ProjectionError(f"no projection {projection!r} in this worker; it has {known}")
        return [self.progress[projection]]

    def _running(self) -> list[Progress]:
        return [each for each in self.progress.values() if each.error is None]

    def _active(self) -> list[Progress]:
        return [each for each in self._running() if each.state != "paused"]

    async def _begin(self) -> None:
        """Find out where each projection stands."""
        every = list(self.progress.values())

        def claim_all(connection: Connection) -> list[int]:
            return [checkpoint.claim(connection, each.projection, utc_now()) for each in every]

        positions = await self._database.transact(claim_all, patience=self._patience)
        for each, position in zip(every, positions, strict=True):
            each.position = position

    async def _read_for_a_while(self) -> None:
        """Read until told to stop or to read for other projections, or for none that is left."""
        reading = asyncio.create_task(self._read())
        told = [asyncio.create_task(each.wait()) for each in (self._stopping, self._repaused)]
        tasks = [reading, *told]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not reading.cancelled():
            reading.result()

    async def _read(self) -> None:
        active = self._active()
        if not active:
            await self._repaused.wait()
            return
        pages = self._store.pages(
            after=min(each.position for each in active),
            live=True,
            max_events=self._batch,
            skip_unknown=self._skip_unknown,
        )
        async with aclosing(pages):
            async for page in pages:
                await self._take(page)
                if not self._active():
                    return

    async def _take(self, page: Page) -> None:
        behind = [each for each in self._active() if each.position < page.position]
        if behind:
            origins = (event.envelope.traceparent for event in page.events)
            with self._telemetry.span("project", links=origins, events=len(page.events)):
                await self._apply(behind, page)
        self.pending = page.pending
        if page.pending == 0:
            for each in self._active():
                each.state = "live"
        self._wake_waiting()
        if self._on_progress is not None:
            self._on_progress(page.position, page.pending)

    async def _apply(self, behind: Sequence[Progress], page: Page) -> None:
        """All projections in one transaction; where that fails, each by itself."""
        try:
            await self._commit(behind, page.events, page.position)
        except DatabaseUnavailable:
            raise
        except (ProjectionError, SQLAlchemyError):
            for each in behind:
                await self._apply_alone(each, page.events, page.position)

    async def _apply_alone(
        self, progress: Progress, events: Sequence[RecordedEvent], until: int
    ) -> None:
        """One projection, as far as it goes; whatever stops it stops no other."""
        try:
            await self._commit([progress], events, until)
        except DatabaseUnavailable:
            raise
        except PoisonEvent as poison:
            if poison.position - 1 > progress.position:
                await self._apply_alone(progress, events, poison.position - 1)
            progress._failed(poison)
        except ProjectionError as error:
            progress._failed(error)
        except SQLAlchemyError as error:
            failure = ProjectionFailed(
                f"projection {progress.name} before position {until}: {error}"
            )
            failure.__cause__ = error
            progress._failed(failure)

    async def _commit(
        self, several: Sequence[Progress], events: Sequence[RecordedEvent], until: int
    ) -> None:
        starts = [(each.projection, each.position) for each in several]

        def work(connection: Connection) -> list[int]:
            return apply(connection, starts, events, until, utc_now())

        def stands(connection: Connection) -> bool:
            """Whether a commit went through of which only the answer was lost."""
            return all(checkpoint.position_of(connection, each) == until for each, _ in starts)

        def moved(counts: list[int]) -> None:
            for each, count in zip(several, counts, strict=True):
                each._moved(until, count)
                self._telemetry.count("events_projected", count, projection=each.name)

        await self._database.transact(work, patience=self._patience, committed=moved, stands=stands)

    def _wake_waiting(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _raise_failures(self) -> None:
        failures = self.failures
        if len(failures) == 1:
            raise failures[0]
        if failures:
            listed = "; ".join(map(str, failures))
            group = ExceptionGroup("projections that stopped", failures)
            raise ProjectionError(f"{len(failures)} projections stopped: {listed}") from group


def _is_at(progress: Progress, position: int) -> bool:
    if progress.position < position and progress.error is not None:
        raise progress.error
    return progress.position >= position


def _check_distinct(projections: Sequence[Projection]) -> None:
    names = [each.name for each in projections]
    tables = [table.name for each in projections for table in each.tables]
    for what, values in (("projection", names), ("table", tables)):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ProjectionError(f"{what} {', '.join(sorted(twice))} is in this worker twice")
    if not names:
        raise ProjectionError("a projection worker needs at least one projection")
